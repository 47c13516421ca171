//! A database of its own on the server that `LANDLINE_TEST_POSTGRES` names, gone
//! when the test is. The console's tests use this file too.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sqlx::{AssertSqlSafe, Connection as _};

pub struct TestDatabase {
    server: String,
    name: String,
    pub url: String,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

impl TestDatabase {
    /// `None` where no server is named.
    pub async fn create() -> Option<Self> {
        let base = std::env::var("LANDLINE_TEST_POSTGRES").ok()?;
        let server = format!("{base}/postgres");
        let name = format!("landline_{}_{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut connection).await.unwrap();
        Some(Self { server, url: format!("{base}/{name}"), name })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let drop = async move {
            let mut connection = sqlx::PgConnection::connect(&server).await?;
            let drop = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
            sqlx::query(drop).execute(&mut connection).await
        };
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(drop).map(|_| ())
        });
        let _ = dropped.join();
    }
}
