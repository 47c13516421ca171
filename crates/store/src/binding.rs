use std::collections::BTreeMap;
use std::net::SocketAddr;

use landline_call::binding::{Binding, BindingChange, Received};
use landline_region::catalogue::sealed::{INDEX_CONTACT, SEALED_BINDING};
use landline_region::{AccountSid, Personal, RegionCode, UserSid};
use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::sql::{Row, Value, values};
use crate::store::Store;

const COLUMNS: &[&str] =
    &["user_sid", "contact_index", "account", "expires_at", "updated_at", "sealed"];

const KEY: &[&str] = &["user_sid", "contact_index"];

/// Everything of a binding that says where and with what a person is: sealed
/// as one value.
#[derive(Serialize, Deserialize)]
struct SealedBinding {
    contact_uri: String,
    call_id: String,
    cseq: u32,
    q_x1000: u16,
    path: Vec<String>,
    instance: Option<String>,
    reg_id: Option<u32>,
    user_agent: Option<String>,
    transport: String,
    flow: u64,
    local: SocketAddr,
    remote: SocketAddr,
    edge_region: Option<RegionCode>,
    media: String,
}

impl Store {
    /// All bindings of users that exist, expired ones too.
    pub async fn load_bindings(&self) -> Result<Vec<Binding>> {
        let select = "SELECT b.user_sid, b.contact_index, b.account, b.expires_at, b.updated_at, \
                      b.sealed FROM binding b JOIN account_user u ON u.sid = b.user_sid";
        let rows = self.database().rows(select, values![]).await?;
        let mut bindings = Vec::with_capacity(rows.len());
        let (mut renamed, mut former) = (Vec::new(), Vec::new());
        for row in &rows {
            let binding = self.binding_of(row).await?;
            let (user, index) = (binding.user, row.bytes("contact_index")?);
            if index != self.index_of(user, &binding.key()) {
                renamed.push(BindingChange::Put(Box::new(binding.clone())));
                former.push(values![user, index]);
            }
            bindings.push(binding);
        }
        // Flows were known by their URIs once.
        if !former.is_empty() {
            self.write_bindings(&renamed).await?;
            let mut tx = self.database().begin().await?;
            tx.delete_many("binding", KEY, former).await?;
            tx.commit().await?;
        }
        Ok(bindings)
    }

    fn index_of(&self, user: UserSid, contact: &Personal<String>) -> Vec<u8> {
        self.keys().index(&INDEX_CONTACT, &user.to_string(), contact.expose())
    }

    /// All of them in one transaction, as if one after the other. When it
    /// returns, they are durable.
    pub async fn write_bindings(&self, changes: &[BindingChange]) -> Result<()> {
        // One statement may not touch a row twice, so only the last change of
        // each binding is written.
        let mut last: BTreeMap<(UserSid, Vec<u8>), Option<&Binding>> = BTreeMap::new();
        for change in changes {
            let (user, contact, binding) = match change {
                BindingChange::Put(binding) => (binding.user, binding.key(), Some(&**binding)),
                BindingChange::Remove { user, contact } => (*user, contact.clone(), None),
            };
            let index = self.index_of(user, &contact);
            last.insert((user, index), binding);
        }
        let (mut put, mut removed) = (Vec::new(), Vec::new());
        for ((user, index), binding) in last {
            match binding {
                Some(binding) => put.push(self.binding_row(binding, index).await?),
                None => removed.push(values![user, index]),
            }
        }
        let mut tx = self.database().begin().await?;
        let on_conflict = "ON CONFLICT (user_sid, contact_index) DO UPDATE SET \
                           account = excluded.account, expires_at = excluded.expires_at, \
                           updated_at = excluded.updated_at, sealed = excluded.sealed";
        tx.insert_many("binding", COLUMNS, on_conflict, put).await?;
        tx.delete_many("binding", KEY, removed).await?;
        tx.commit().await
    }

    async fn binding_row(&self, binding: &Binding, index: Vec<u8>) -> Result<Vec<Value>> {
        let sealer = self.account_sealer(binding.account).await?;
        let exposed = |text: &Option<Personal<String>>| text.as_ref().map(|t| t.expose().clone());
        let plain = SealedBinding {
            contact_uri: binding.contact_uri.expose().clone(),
            call_id: binding.call_id.expose().clone(),
            cseq: binding.cseq,
            q_x1000: binding.q_x1000,
            path: binding.path.iter().map(|hop| hop.expose().clone()).collect(),
            instance: exposed(&binding.instance),
            reg_id: binding.reg_id,
            user_agent: exposed(&binding.user_agent),
            transport: binding.received.transport.name().to_owned(),
            flow: binding.received.flow,
            local: binding.received.local,
            remote: *binding.received.remote.expose(),
            edge_region: binding.edge_region,
            media: binding.media.name().to_owned(),
        };
        let plain = postcard::to_stdvec(&plain).map_err(|error| broken(error.to_string()))?;
        let sealed = sealer.seal(&SEALED_BINDING, &row_name(binding.user, &index), &plain);
        let (expires, updated) = (binding.expires_at, binding.updated_at);
        Ok(values![binding.user, index, binding.account, expires, updated, sealed])
    }

    async fn binding_of(&self, row: &Row) -> Result<Binding> {
        let user: UserSid = row.parse("user_sid")?;
        let account: AccountSid = row.parse("account")?;
        let name = row_name(user, &row.bytes("contact_index")?);
        let sealer = self.account_sealer(account).await?;
        let plain = sealer.open(&SEALED_BINDING, &name, &row.bytes("sealed")?)?;
        let plain: SealedBinding =
            postcard::from_bytes(&plain).map_err(|error| broken(error.to_string()))?;
        Ok(Binding {
            user,
            account,
            contact_uri: Personal::new(plain.contact_uri),
            call_id: Personal::new(plain.call_id),
            cseq: plain.cseq,
            expires_at: row.time("expires_at")?,
            q_x1000: plain.q_x1000,
            path: plain.path.into_iter().map(Personal::new).collect(),
            instance: plain.instance.map(Personal::new),
            reg_id: plain.reg_id,
            user_agent: plain.user_agent.map(Personal::new),
            received: Received {
                transport: plain.transport.parse().map_err(|_| broken("transport".to_owned()))?,
                flow: plain.flow,
                local: plain.local,
                remote: Personal::new(plain.remote),
            },
            edge_region: plain.edge_region,
            media: plain.media.parse().map_err(|_| broken("media".to_owned()))?,
            updated_at: row.time("updated_at")?,
        })
    }
}

fn row_name(user: UserSid, index: &[u8]) -> String {
    format!("{user}/{}", hex::encode(index))
}

fn broken(problem: String) -> StoreError {
    StoreError::Column { column: "binding.sealed".to_owned(), problem }
}
