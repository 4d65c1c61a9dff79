//! The faults: what each is called, what it does in words, what it takes and how often it is done.

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    KillOne,
    KillAll,
    KillOwner,
    StopOwner,
    Freeze,
    Rolling,
    Scale,
    CutCql,
    SlowCql,
    UnknownWrite,
    CutKafka,
    Poison,
    KillBroker,
    KillNode,
}

/// What a fault takes beyond one broker and one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// Three of each: one goes down.
    Replicas,
    /// Brokers that can be reached through gates.
    KafkaGates,
}

impl Fault {
    pub(crate) const ALL: [Self; 14] = [
        Self::KillOne,
        Self::KillAll,
        Self::KillOwner,
        Self::StopOwner,
        Self::Freeze,
        Self::Rolling,
        Self::Scale,
        Self::CutCql,
        Self::SlowCql,
        Self::UnknownWrite,
        Self::CutKafka,
        Self::Poison,
        Self::KillBroker,
        Self::KillNode,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillOne => "kill-one",
            Self::KillAll => "kill-all",
            Self::KillOwner => "kill-owner",
            Self::StopOwner => "stop-owner",
            Self::Freeze => "freeze",
            Self::Rolling => "rolling",
            Self::Scale => "scale",
            Self::CutCql => "cut-cql",
            Self::SlowCql => "slow-cql",
            Self::UnknownWrite => "unknown-write",
            Self::CutKafka => "cut-kafka",
            Self::Poison => "poison",
            Self::KillBroker => "kill-broker",
            Self::KillNode => "kill-node",
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::KillOne => "`kill -9` of any instance of any service, which is started again at once",
            Self::KillAll => "`kill -9` of all instances at once",
            Self::KillOwner => "`kill -9` of a chat instance, which stays away until the other one has taken over",
            Self::StopOwner => "SIGTERM to a chat instance, which stays away until the other one has taken over",
            Self::Freeze => "SIGSTOP of a chat instance for longer than its session lasts, then SIGCONT",
            Self::Rolling => "rolling restart of everything, to another configuration and back",
            Self::Scale => "from one chat instance to three and back",
            Self::CutCql => "a chat and an accounts instance cut off from the CQL nodes for 5 s",
            Self::SlowCql => "500 ms more to one CQL node, for a chat and an accounts instance, for 10 s",
            Self::UnknownWrite => "CQL answers to a chat and an accounts instance lost for 2 s: outcomes unknown",
            Self::CutKafka => "a chat instance cut off from the brokers, for less than its session lasts and for longer",
            Self::Poison => "records that nobody can read, in every partition of every topic",
            Self::KillBroker => "`kill -9` and restart of a Kafka broker, one after another",
            Self::KillNode => "`kill -9` and restart of a CQL node, one after another",
        }
    }

    /// Whether it is in the short form.
    pub(crate) fn is_short(self) -> bool {
        matches!(self, Self::KillOne | Self::KillAll | Self::Freeze | Self::Scale)
    }

    pub(crate) fn needs(self) -> Needs {
        match self {
            Self::KillBroker | Self::KillNode => Needs::Replicas,
            Self::CutKafka => Needs::KafkaGates,
            _ => Needs::Nothing,
        }
    }

    pub(crate) fn rounds(self, short: bool) -> u32 {
        match self {
            Self::KillOne if short => 6,
            Self::KillOne => 20,
            Self::KillAll | Self::Freeze if short => 1,
            Self::Scale | Self::SlowCql => 1,
            Self::Rolling | Self::Poison => 2,
            Self::KillOwner | Self::StopOwner => 4,
            Self::KillAll | Self::Freeze | Self::CutCql | Self::UnknownWrite | Self::CutKafka | Self::KillBroker | Self::KillNode => 3,
        }
    }

    /// Whether everything is replayed after it, which takes longer than most faults.
    pub(crate) fn is_replayed(self, short: bool) -> bool {
        !short || self == Self::KillAll
    }

    /// What error lines of the processes may say.
    pub(crate) fn expected(self) -> &'static [&'static str] {
        match self {
            Self::Poison => &["record parked"],
            // The driver's own words for nodes that it cannot reach.
            Self::CutCql | Self::UnknownWrite | Self::KillNode => &["ERROR scylla::cluster"],
            _ => &[],
        }
    }
}
