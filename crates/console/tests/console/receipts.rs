//! Receipts and reports over the API, checked as a stranger would: with the
//! region's public key and nothing else of the region.

use landline_region::receipt::{Document, Trust, Verdict, VerifyingKey, verify};
use landline_store::{ApiRole, Issuer, IssuerConfig};

use crate::on_both_engines;
use crate::support::{Answer, Region, uri};

/// 2023-11-14T00:00:00Z.
const MIDNIGHT: i64 = 1_699_920_000_000;
const DAY: i64 = 86_400_000;

/// What the answer's octets prove to whoever has the region's key from its
/// own page.
async fn verified(region: &Region, answer: &Answer) -> Verdict {
    let shown = region.get("/v1/region", None).await.expect(200);
    let pem = shown["receipt_key"]["pem"].as_str().unwrap();
    let key = VerifyingKey::from_pem(region.code, pem).unwrap();
    verify(&Document::parse(&answer.text()).unwrap(), &Trust { keys: vec![key] })
}

async fn all_are_issued(region: &Region) {
    let issuer = Issuer::start(region.store.clone(), IssuerConfig::default());
    for attempt in 0.. {
        if region.store.receipts_waiting().await.unwrap() == 0 {
            break;
        }
        assert!(attempt < 400, "receipts still wait");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    issuer.shutdown().await;
}

on_both_engines! {
    async fn a_calls_receipt_over_the_api_is_verified_offline(world: World) {
        let call = world.ie1.call(&world.acme, 1, MIDNIGHT, true).await;
        let open = world.ie1.call(&world.acme, 2, MIDNIGHT, false).await;
        let key = world.key(ApiRole::Auditor).await;
        let path = uri(world.acme.sid, &format!("/Calls/{call}/Receipt.json"));
        let early = world.ie1.get(&path, Some(&key)).await.problem(404, "not-found");
        assert!(early["detail"].as_str().unwrap().contains("issued when"), "{early}");
        all_are_issued(&world.ie1).await;

        let shown = world.ie1.get(&uri(world.acme.sid, &format!("/Calls/{call}.json")), Some(&key)).await;
        assert_eq!(shown.expect(200)["subresource_uris"]["receipt"], path);
        let answer = world.ie1.get(&path, Some(&key)).await;
        let file = answer.expect(200);
        assert_eq!(file["evidence"]["receipt"]["body"]["call"], call.to_string());
        let verdict = verified(&world.ie1, &answer).await;
        assert!(verdict.is_sound(), "{:?}", verdict.faults);
        // Whoever changes a member is found out.
        let forged = Answer { body: answer.text().replace("\"ie1\"", "\"us1\"").into_bytes(), ..answer };
        assert!(!verified(&world.ie1, &forged).await.is_sound());

        let path = uri(world.acme.sid, &format!("/Calls/{open}/Receipt.json"));
        let early = world.ie1.get(&path, Some(&key)).await.problem(404, "not-found");
        assert!(early["detail"].as_str().unwrap().contains("still open"), "{early}");
    }

    async fn a_report_over_the_api_holds_the_calls_of_its_period_and_account(world: World) {
        let snapshot = world.dir.path().join("directory.json");
        let other = world.ie1.account(&snapshot, "Other", "other.test").await;
        for number in 1..=3 {
            world.ie1.call(&world.acme, number, MIDNIGHT + DAY * number as i64, true).await;
        }
        let theirs = world.ie1.call(&other, 9, MIDNIGHT + DAY * 2, true).await;
        let key = world.key(ApiRole::Auditor).await;
        let path = uri(world.acme.sid, "/ResidencyReport.json");
        world.ie1.get(&path, Some(&key)).await.problem(404, "not-found");
        all_are_issued(&world.ie1).await;

        for (query, calls) in [
            ("", 3),
            ("?StartTime%3E=2023-11-16", 2),
            ("?StartTime%3C=2023-11-16", 1),
            ("?StartTime%3E=2023-11-16&StartTime%3C=2023-11-17", 1),
            ("?StartTime%3E=2024-01-01", 0),
        ] {
            let answer = world.ie1.get(&format!("{path}{query}"), Some(&key)).await;
            let file = answer.expect(200);
            let body = &file["report"]["body"];
            assert_eq!((&body["receipts"], &body["account"]), (&calls.into(), &world.acme.sid.to_string().into()), "{query}");
            assert!(!answer.text().contains(&theirs.to_string()), "{query}");
            let verdict = verified(&world.ie1, &answer).await;
            assert!(verdict.is_sound(), "{query}: {:?}", verdict.faults);
        }
        let backwards = format!("{path}?StartTime%3E=2023-11-17&StartTime%3C=2023-11-16");
        let problem = world.ie1.get(&backwards, Some(&key)).await.problem(400, "bad-request");
        assert_eq!(problem["field"], "StartTime>");
        // Another account's call has no receipt here, by way of either account.
        let through = uri(world.acme.sid, &format!("/Calls/{theirs}/Receipt.json"));
        world.ie1.get(&through, Some(&key)).await.problem(404, "not-found");
    }

    async fn a_region_names_its_data_protection_officer_to_anyone(world: World) {
        for region in [&world.ie1, &world.us1] {
            let shown = region.get("/v1/region", None).await.expect(200);
            assert_eq!(shown["data_protection_officer"], format!("dpo@{}.example", region.code));
        }
    }
}
