use landline_call::binding::{Binding, BindingChange};

use crate::error::Result;
use crate::store::{Store, not_ready};

impl Store {
    pub async fn load_bindings(&self) -> Result<Vec<Binding>> {
        Err(not_ready("binding"))
    }

    /// All of them in one transaction, in order. When it returns, they are durable.
    pub async fn write_bindings(&self, changes: &[BindingChange]) -> Result<()> {
        let _ = changes;
        Err(not_ready("binding"))
    }
}
