//! The secret that all services of a deployment share: the key that seals page tokens. Made at the first start, kept in the store.

use anyhow::Context;
use plaza_embedded_db::{Batch, Db, Expect};
use plaza_rpc::PageTokens;
use plaza_runtime::Rng;

const KEY: &[u8] = b"page-tokens";

/// Page tokens sealed with the kept key.
pub(crate) async fn page_tokens(db: &Db, rng: &Rng) -> anyhow::Result<PageTokens> {
    let keyspace = db.keyspace("server")?;
    let mut batch = Batch::new();
    batch.insert(&keyspace, KEY, rng.bytes::<32>().to_vec());
    // A later start finds the key there and writes nothing.
    db.conditional(vec![Expect::absent(&keyspace, KEY)], batch).await?;
    let key = keyspace.get(KEY)?.context("the page token key is not there")?;
    Ok(PageTokens::new(key.as_ref().try_into().context("the page token key is damaged")?))
}
