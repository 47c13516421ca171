//! What the gate decides is written down, once, and adds up.

mod common;

use landline_region::UnixMillis;
use landline_region::catalogue::fields::{ACCOUNT_DOMAIN, NUMBER};
use landline_region::egress::{Destination, Flow, Form};
use landline_store::{StoreError, directory};

on_both_engines! {
    async fn decisions_are_audit_lines_by_flow_destination_and_verdict(region: Region) {
        let gate = region.store.gate();
        let decide = || {
            let _ = gate.decide(Flow::Directory, &Destination::Directory, &[(&ACCOUNT_DOMAIN, Form::Bare)]);
        };
        decide();
        decide();
        let _ = gate.decide(Flow::Mail, &Destination::Party("someone@secret.example"), &[]);
        region.store.write_egress().await.unwrap();
        region.store.write_egress().await.unwrap();
        decide();
        region.store.write_egress().await.unwrap();
        let flows = region.store.egress_flows(UnixMillis(0)).await.unwrap();
        let shown: Vec<_> = flows
            .iter()
            .map(|it| (it.flow, it.destination.as_str(), it.verdict.as_str(), it.count))
            .collect();
        assert_eq!(
            shown,
            [
                (Flow::Directory, "directory", "passed", 3),
                (Flow::Mail, "undeclared", "unlisted", 1),
            ]
        );
        assert!(region.store.egress_flows(UnixMillis(i64::MAX)).await.unwrap().is_empty());
    }

    async fn a_field_that_the_directory_may_not_hold_is_not_written(region: Region) {
        let path = region.path("directory.json");
        let gate = region.store.gate();
        let refused = directory::update(gate, &path, &[(&NUMBER, Form::Bare)], |directory| {
            directory.version = 7;
            Ok(())
        });
        assert!(matches!(refused, Err(StoreError::Egress(_))), "{refused:?}");
        assert!(!path.exists());
    }
}
