//! Answers that were given under an idempotency key, so that a request that
//! is sent again is answered again and not carried out again.

use landline_region::catalogue::sealed::{INDEX_API_ANSWER, SEALED_API_ANSWER};
use landline_region::{AccountSid, ApiKeySid, UnixMillis};

use crate::error::Result;
use crate::sql::values;
use crate::store::{Store, now};

/// How long an answer is kept.
pub const ANSWERS_KEPT_MS: i64 = 24 * 3_600_000;

/// Names a request by its key's holder.
#[derive(Debug, Clone, Copy)]
pub struct RequestName<'a> {
    pub account: AccountSid,
    pub key: ApiKeySid,
    /// What the client sent as `Idempotency-Key`.
    pub name: &'a str,
}

/// What is known of a request's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It was not used; it is now, for this request.
    New,
    /// The same request is being carried out.
    Underway,
    /// Another request has this name.
    Other,
    Answered {
        status: u16,
        body: Vec<u8>,
    },
}

impl Store {
    pub async fn answer_claim(
        &self,
        request: RequestName<'_>,
        fingerprint: &[u8; 32],
    ) -> Result<Claim> {
        let (key, index) = (request.key.to_string(), self.answer_index(request));
        let mut tx = self.database().begin().await?;
        let delete = "DELETE FROM api_answer WHERE api_key = $1 AND request_index = $2 \
                      AND created_at < $3";
        let oldest = UnixMillis(now().0 - ANSWERS_KEPT_MS);
        tx.execute(delete, values![key.as_str(), index.clone(), oldest]).await?;
        let insert = "INSERT INTO api_answer (api_key, request_index, fingerprint, created_at) \
                      VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let claimed =
            tx.execute(insert, values![key.as_str(), index.clone(), *fingerprint, now()]).await?;
        let select = "SELECT fingerprint, status, answer FROM api_answer \
                      WHERE api_key = $1 AND request_index = $2";
        let row = tx.row(select, values![key.as_str(), index.clone()]).await?;
        tx.commit().await?;
        let Some(row) = row.filter(|_| claimed == 0) else { return Ok(Claim::New) };
        if row.bytes("fingerprint")? != fingerprint {
            return Ok(Claim::Other);
        }
        let (status, sealed) = (row.int_or_null("status")?, row.bytes_or_null("answer")?);
        let Some((status, sealed)) = status.zip(sealed) else { return Ok(Claim::Underway) };
        let sealer = self.account_sealer(request.account).await?;
        let body = sealer.open(&SEALED_API_ANSWER, &hex::encode(&index), &sealed)?;
        Ok(Claim::Answered { status: u16::try_from(status).unwrap_or(500), body })
    }

    pub async fn answer_keep(
        &self,
        request: RequestName<'_>,
        status: u16,
        body: &[u8],
    ) -> Result<()> {
        let index = self.answer_index(request);
        let sealer = self.account_sealer(request.account).await?;
        let sealed = sealer.seal(&SEALED_API_ANSWER, &hex::encode(&index), body);
        let update = "UPDATE api_answer SET status = $3, answer = $4 \
                      WHERE api_key = $1 AND request_index = $2";
        let answer = values![request.key.to_string(), index, status, sealed];
        self.database().execute(update, answer).await.map(drop)
    }

    /// The request failed by a fault of ours: it may be tried again.
    pub async fn answer_release(&self, request: RequestName<'_>) -> Result<()> {
        let delete = "DELETE FROM api_answer WHERE api_key = $1 AND request_index = $2";
        let request = values![request.key.to_string(), self.answer_index(request)];
        self.database().execute(delete, request).await.map(drop)
    }

    /// Removes what is older than a day.
    pub async fn answers_expire(&self) -> Result<u64> {
        let delete = "DELETE FROM api_answer WHERE created_at < $1";
        self.database().execute(delete, values![now().0 - ANSWERS_KEPT_MS]).await
    }

    fn answer_index(&self, request: RequestName<'_>) -> Vec<u8> {
        self.keys().index(&INDEX_API_ANSWER, &request.key.to_string(), request.name)
    }
}
