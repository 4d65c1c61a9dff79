//! The topics in the store, and what can never change about them: number and partition count.
//!
//! They are rows of the log's own keyspace: the key is four zero bytes and the name, the row is number and partition count, 4 bytes each,
//! big-endian, and the form in which its records are stored. A row without it is of a version whose records this one does not find: the folder
//! is refused.

use plaza_embedded_db::{Batch, Db, Keyspace};

use super::db_error;
use crate::{Error, Topic};

const PREFIX: [u8; 4] = [0; 4];
/// Each partition is a sequence of the store.
const FORM: u8 = 2;

/// The topics' numbers, in the order given. The rows of new topics are queued, so they are in the journal before any record.
pub(super) fn register(db: &Db, rows: &Keyspace, topics: &[(Topic, u32)]) -> Result<Vec<u32>, Error> {
    let mut last = 0;
    for row in rows.prefix(&PREFIX) {
        let (key, row) = row.map_err(db_error)?;
        last = last.max(decode(&key, &row)?.0);
    }
    let mut batch = Batch::new();
    let mut numbers = Vec::new();
    for (topic, partitions) in topics {
        let key = [&PREFIX, topic.0.as_bytes()].concat();
        let number = match rows.get(&key).map_err(db_error)? {
            Some(row) => {
                let (number, recorded) = decode(&key, &row)?;
                if recorded != *partitions {
                    return Err(Error::Fatal(format!(
                        "topic {} was created with {recorded} partitions and cannot be opened with {partitions}",
                        topic.0
                    )));
                }
                number
            }
            None => {
                last += 1;
                batch.insert(rows, key, [&last.to_be_bytes()[..], &partitions.to_be_bytes(), &[FORM]].concat());
                last
            }
        };
        numbers.push(number);
    }
    if !batch.is_empty() {
        db.enqueue(batch);
    }
    Ok(numbers)
}

fn decode(key: &[u8], row: &[u8]) -> Result<(u32, u32), Error> {
    let of_this_form = row.strip_suffix(&[FORM]).and_then(|row| row.split_first_chunk());
    let parts = of_this_form.and_then(|(number, rest)| Some((*number, rest.try_into().ok()?)));
    let (number, partitions) = parts.ok_or_else(|| Error::Fatal(format!("the row of key {key:02x?} is not a topic of this version")))?;
    Ok((u32::from_be_bytes(number), u32::from_be_bytes(partitions)))
}
