use std::collections::BTreeSet;
use std::time::Duration;

use landline_region::CallSid;
use landline_store::ApiRole;
use serde_json::Value;

use crate::on_both_engines;
use crate::support::uri;

const DAY: i64 = 86_400_000;
/// 2023-11-14T00:00:00Z.
const MIDNIGHT: i64 = 1_699_920_000_000;

fn sids(page: &Value) -> Vec<String> {
    let calls = page["calls"].as_array().unwrap();
    calls.iter().map(|call| call["sid"].as_str().unwrap().to_owned()).collect()
}

on_both_engines! {
    async fn a_call_is_shown_with_the_names_that_cpaas_users_know(world: World) {
        let call = world.ie1.call(&world.acme, 7, MIDNIGHT, true).await;
        let key = world.key(ApiRole::Read).await;
        let path = uri(world.acme.sid, &format!("/Calls/{call}.json"));
        let shown = world.ie1.get(&path, Some(&key)).await.expect(200);
        for (name, value) in [
            ("account_sid", world.acme.sid.to_string().as_str()),
            ("from", "alice.murphy"),
            ("to", "+35315550007"),
            ("direction", "outbound-dial"),
            ("status", "completed"),
            ("date_created", "Tue, 14 Nov 2023 00:00:00 +0000"),
            ("end_time", "Tue, 14 Nov 2023 00:00:01 +0000"),
            ("duration", "1"),
            ("opened_at", "2023-11-14T00:00:00.000Z"),
            ("home_region", "ie1"),
            ("media_region", "ie1"),
            ("storage_region", "ie1"),
            ("personal_data", "readable"),
            ("uri", path.as_str()),
        ] {
            assert_eq!(shown[name], value, "{name}: {shown}");
        }
        assert_eq!(shown["legs"][0]["media"], "dtls");
        assert!(!shown.to_string().contains("secret-call-id"));
    }

    async fn who_called_whom_is_not_for_those_who_administer_or_audit(world: World) {
        let call = world.ie1.call(&world.acme, 7, MIDNIGHT, true).await;
        for (role, sees) in [
            (ApiRole::Operator, true),
            (ApiRole::Read, true),
            (ApiRole::Admin, false),
            (ApiRole::Auditor, false),
        ] {
            let key = world.key(role).await;
            for path in [format!("/Calls/{call}.json"), "/Calls.json".to_owned()] {
                let text = world.ie1.get(&uri(world.acme.sid, &path), Some(&key)).await.text();
                let seen = text.contains("alice.murphy") || text.contains("+35315550007");
                assert_eq!((seen, text.contains("\"withheld\"")), (sees, !sees), "{role} {path}");
            }
            let guess = uri(world.acme.sid, "/Calls.json?To=%2B35315550007");
            let status = world.ie1.get(&guess, Some(&key)).await.status;
            assert_eq!(status, if sees { 200 } else { 400 }, "{role}");
        }
    }

    async fn pages_hold_every_call_once_whatever_is_added_meanwhile(world: World) {
        // Several share a moment: the sid decides then.
        for number in 1..=25 {
            world.ie1.call(&world.acme, number, MIDNIGHT + (number as i64 / 4) * 1000, true).await;
        }
        let key = world.key(ApiRole::Read).await;
        let mut next = Some(uri(world.acme.sid, "/Calls.json?PageSize=4"));
        let (mut seen, mut pages) = (Vec::new(), 0);
        while let Some(at) = next {
            let page = world.ie1.get(&at, Some(&key)).await.expect(200);
            assert_eq!(page["page_size"], 4);
            assert_eq!(page["first_page_uri"], uri(world.acme.sid, "/Calls.json?PageSize=4"));
            seen.extend(sids(&page));
            next = page["next_page_uri"].as_str().map(str::to_owned);
            pages += 1;
            world.ie1.call(&world.acme, 100 + pages, MIDNIGHT + DAY, true).await;
        }
        let unique: BTreeSet<&String> = seen.iter().collect();
        assert_eq!((pages, seen.len(), unique.len()), (7, 25, 25));
        assert_eq!(seen[0], CallSid::from_u128(24).to_string(), "newest first");
    }

    async fn calls_are_found_by_time_status_and_party(world: World) {
        for number in 1..=3 {
            world.ie1.call(&world.acme, number, MIDNIGHT + DAY * number as i64, true).await;
        }
        world.ie1.call(&world.acme, 4, MIDNIGHT + DAY * 4, false).await;
        let key = world.key(ApiRole::Operator).await;
        for (query, wanted) in [
            ("StartTime%3E=2023-11-16", vec![4, 3, 2]),
            ("StartTime%3C=2023-11-16T00:00:00Z", vec![1]),
            ("StartTime%3E=2023-11-16&StartTime%3C=2023-11-17", vec![2]),
            ("Status=in-progress", vec![4]),
            ("Status=completed", vec![3, 2, 1]),
            ("Status=busy", vec![]),
            ("To=%2B35315550002", vec![2]),
            ("From=alice.murphy&Status=completed&PageSize=1", vec![3]),
            ("From=alice", vec![]),
        ] {
            let path = uri(world.acme.sid, &format!("/Calls.json?{query}"));
            let found = sids(&world.ie1.get(&path, Some(&key)).await.expect(200));
            let wanted: Vec<String> =
                wanted.into_iter().map(|number| CallSid::from_u128(number).to_string()).collect();
            assert_eq!(found, wanted, "{query}");
        }
        for (query, field) in [
            ("StartTime%3E=yesterday", "StartTime>"),
            ("Status=over", "Status"),
            ("PageSize=0", "PageSize"),
            ("PageToken=x", "PageToken"),
        ] {
            let path = uri(world.acme.sid, &format!("/Calls.json?{query}"));
            let problem = world.ie1.get(&path, Some(&key)).await.problem(400, "bad-request");
            assert_eq!(problem["field"], field);
        }
    }

    async fn a_live_call_is_hung_up_by_its_proxy_and_shown_with_its_end(world: World) {
        let call = world.ie1.call(&world.acme, 1, MIDNIGHT, false).await;
        let path = uri(world.acme.sid, &format!("/Calls/{call}.json"));
        let reader = world.key(ApiRole::Read).await;
        world.ie1.post(&path, &reader, "Status=completed").await.problem(403, "forbidden");
        assert!(world.ie1.calls.hung_up.lock().unwrap().is_empty());

        let operator = world.key(ApiRole::Operator).await;
        let ask = world.ie1.post(&path, &operator, "Status=completed");
        let end = async {
            while world.ie1.calls.hung_up.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            world.ie1.end(&world.acme, 1, MIDNIGHT).await;
        };
        let (answer, ()) = tokio::join!(ask, end);
        let shown = answer.expect(200);
        assert_eq!((&shown["status"], &shown["cause"]), (&"completed".into(), &"hung_up_by_admin".into()));
        assert_eq!(*world.ie1.calls.hung_up.lock().unwrap(), [call]);
        // A call that is over stays over, and its proxy is not asked again.
        world.ie1.post(&path, &operator, "Status=completed").await.expect(200);
        assert_eq!(world.ie1.calls.hung_up.lock().unwrap().len(), 1);
    }

    async fn a_call_is_asked_of_the_proxy_and_answered_with_its_record(world: World) {
        let (admin, operator) = (world.key(ApiRole::Admin).await, world.key(ApiRole::Operator).await);
        for form in ["User=alice&Number=%2B35315550101", "User=bob"] {
            world.ie1.post(&uri(world.acme.sid, "/Users.json"), &admin, form).await.expect(201);
        }
        let path = uri(world.acme.sid, "/Calls.json");
        world.ie1.post(&path, &admin, "From=alice&To=bob").await.problem(403, "forbidden");
        for (form, field) in [
            ("From=nobody&To=bob", "from"),
            ("From=%2B35315550199&To=bob", "from"),
            ("From=alice&To=nobody", "to"),
            ("From=alice&To=%2B0", "to"),
        ] {
            let problem = world.ie1.post(&path, &operator, form).await.problem(400, "bad-request");
            assert_eq!(problem["field"], field, "{form}");
        }
        assert!(world.ie1.calls.started.lock().unwrap().is_empty());

        // By name and by number; whom he dials may be anybody's number.
        for (form, to) in [("From=alice&To=bob", "bob"), ("From=%2B35315550101&To=%2B14155550100", "+14155550100")] {
            let before = world.ie1.calls.started.lock().unwrap().len();
            let ask = world.ie1.post(&path, &operator, form);
            let open = async {
                let asked = loop {
                    if let Some(asked) = world.ie1.calls.started.lock().unwrap().get(before) {
                        break asked.clone();
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                };
                let user = world.ie1.store.user_find(world.acme.sid, "alice").await.unwrap();
                assert_eq!((asked.account, asked.from, asked.to.expose().as_str()), (world.acme.sid, user.sid, to));
                world.ie1.call(&world.acme, asked.sid.as_u128(), MIDNIGHT, false).await;
                asked.sid
            };
            let (answer, sid) = tokio::join!(ask, open);
            assert_eq!(answer.expect(201)["sid"], sid.to_string());
            assert_eq!(answer.headers["location"], uri(world.acme.sid, &format!("/Calls/{sid}.json")));
        }
        // A proxy that is behind, or that writes no record, is no call.
        world.ie1.post(&path, &operator, "From=alice&To=bob").await.problem(503, "unavailable");
        world.ie1.calls.deaf.store(true, std::sync::atomic::Ordering::Relaxed);
        world.ie1.post(&path, &operator, "From=alice&To=bob").await.problem(503, "unavailable");
    }

    async fn an_unchanged_call_is_not_sent_again(world: World) {
        let call = world.ie1.call(&world.acme, 1, MIDNIGHT, false).await;
        let path = uri(world.acme.sid, &format!("/Calls/{call}.json"));
        let key = world.key(ApiRole::Read).await;
        let first = world.ie1.get(&path, Some(&key)).await;
        let etag = first.headers["etag"].to_str().unwrap().to_owned();
        let known = [("if-none-match", etag.as_str())];
        let again = world.ie1.ask("GET", &path, Some(&key), &known, "").await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
        world.ie1.end(&world.acme, 1, MIDNIGHT).await;
        world.ie1.ask("GET", &path, Some(&key), &known, "").await.expect(200);
    }
}
