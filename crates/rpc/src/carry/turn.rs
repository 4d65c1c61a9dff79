//! One task with several parts that wake each other.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// Polls those parts of a task that were woken, and goes on for as long as one wakes another: a task that wakes itself is queued again, where
/// another worker thread may be woken to take it.
pub(super) struct Turn<const PARTS: usize> {
    state: Arc<State>,
    wakers: [Waker; PARTS],
}

struct State {
    task: AtomicWaker,
    running: AtomicBool,
    /// A bit for each part.
    woken: AtomicU8,
}

struct Part {
    state: Arc<State>,
    bit: u8,
}

impl Wake for Part {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.state.woken.fetch_or(self.bit, SeqCst);
        if !self.state.running.load(SeqCst) {
            self.state.task.wake();
        }
    }
}

impl<const PARTS: usize> Turn<PARTS> {
    /// Each part is polled once to begin with.
    pub(super) fn new() -> Self {
        let state = State { task: AtomicWaker::new(), running: AtomicBool::new(false), woken: AtomicU8::new(u8::MAX) };
        let state = Arc::new(state);
        let wakers = array::from_fn(|part| Waker::from(Arc::new(Part { state: Arc::clone(&state), bit: 1 << part })));
        Self { state, wakers }
    }

    /// Polls parts, by their places, until one is ready or none has anything to do.
    pub(super) fn run<T>(&self, cx: &Context<'_>, mut poll: impl FnMut(usize, &mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let State { task, running, woken } = &*self.state;
        task.register(cx.waker());
        loop {
            running.store(true, SeqCst);
            loop {
                let parts = woken.swap(0, SeqCst);
                if parts == 0 {
                    break;
                }
                for (part, waker) in self.wakers.iter().enumerate().filter(|(part, _)| parts & 1 << part != 0) {
                    if let Poll::Ready(done) = poll(part, &mut Context::from_waker(waker)) {
                        return Poll::Ready(done);
                    }
                }
            }
            running.store(false, SeqCst);
            // Whoever wakes a part now wakes the task; whoever did between the two looks is seen here.
            if woken.load(SeqCst) == 0 {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn parts_wake_each_other_within_it_and_others_wake_the_task() {
        let woken = Arc::new(Woken::default());
        let task = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&task);
        let turn = Turn::<3>::new();
        let (mut polled, mut wakers) = (Vec::new(), Vec::new());
        let done = turn.run(&cx, |part, cx| {
            polled.push(part);
            wakers.push(cx.waker().clone());
            if polled.len() == 3 {
                wakers[0].wake_by_ref();
                wakers[2].wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(done.is_pending());
        assert_eq!((polled, woken.0.load(SeqCst)), (vec![0, 1, 2, 0, 2], 0));

        wakers[1].wake_by_ref();
        assert_eq!(woken.0.load(SeqCst), 1);
        assert_eq!(turn.run(&cx, |part, _| Poll::Ready(part)), Poll::Ready(1));
    }
}
