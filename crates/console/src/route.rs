//! The one list of what can be asked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::{Method, StatusCode, header};
use landline_store::ApiRole;
use schemars::{Schema, SchemaGenerator};

use crate::app::App;
use crate::input::Input;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::resources::{
    account, audit, calls, keys, numbers, receipts, recordings, region, routes, trunks, usage,
    users, webhooks,
};

/// One thing that can be asked.
pub struct Route {
    /// Its name, the object first: in the audit, in metrics, as `operationId`.
    pub operation: &'static str,
    pub method: Method,
    /// `{NAME}` stands for one segment, or for a segment up to its suffix.
    pub path: &'static str,
    /// Who may: nobody's key is asked where it is empty.
    pub roles: &'static [ApiRole],
    pub audit: Audit,
    pub summary: &'static str,
    pub query: &'static [Parameter],
    pub body: Option<Describe>,
    /// The status of success, and what comes with it.
    pub success: (u16, Content),
    pub run: Run,
}

/// What is written down of a request: who, what, when, from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audit {
    /// Nothing personal is shown and nothing changed.
    No,
    /// Shows personal data or media.
    Read,
    Write,
}

pub enum Content {
    Nothing,
    Json(Describe),
    Media(&'static str),
}

/// The schema of a type.
pub type Describe = fn(&mut SchemaGenerator) -> Schema;
pub type Run = fn(Arc<App>, Input) -> Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

pub struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    pub summary: &'static str,
}

pub enum Kind {
    Text,
    Time,
    Count,
    OneOf(&'static [&'static str]),
}

const fn parameter(name: &'static str, kind: Kind, summary: &'static str) -> Parameter {
    Parameter { name, kind, summary }
}

const PAGE_SIZE: Parameter =
    parameter("PageSize", Kind::Count, "How many, 1 to 1000; 50 if not said.");
const PAGE_TOKEN: Parameter =
    parameter("PageToken", Kind::Text, "Where a former page ended, from its `next_page_uri`.");
const STANDINGS: &[&str] =
    &["queued", "ringing", "in-progress", "completed", "busy", "no-answer", "canceled", "failed"];
const PAGES: &[Parameter] = &[PAGE_SIZE, PAGE_TOKEN];
const CALL_QUERY: &[Parameter] = &[
    parameter("StartTime>", Kind::Time, "Opened at or after."),
    parameter("StartTime<", Kind::Time, "Opened before."),
    parameter("Status", Kind::OneOf(STANDINGS), "How the call stands."),
    parameter("From", Kind::Text, "Exactly this caller: a number or a user's name."),
    parameter("To", Kind::Text, "Exactly this callee, as dialled."),
    PAGE_SIZE,
    PAGE_TOKEN,
];

const RECORDING_QUERY: &[Parameter] = &[
    parameter("DateCreated>", Kind::Time, "Started at or after."),
    parameter("DateCreated<", Kind::Time, "Started before."),
    PAGE_SIZE,
    PAGE_TOKEN,
];
const AUDIT_QUERY: &[Parameter] = &[
    parameter("StartTime>", Kind::Time, "Done at or after."),
    parameter("StartTime<", Kind::Time, "Done before."),
    PAGE_SIZE,
    PAGE_TOKEN,
];
const DELIVERY_QUERY: &[Parameter] = &[
    parameter("Status", Kind::OneOf(&["waiting", "failed"]), "How they stand."),
    PAGE_SIZE,
    PAGE_TOKEN,
];
const REPORT_QUERY: &[Parameter] = &[
    parameter(
        "StartTime>",
        Kind::Time,
        "Calls opened at or after; all from the first if not said.",
    ),
    parameter("StartTime<", Kind::Time, "Calls opened before; now if not said."),
];
const ROUTE_QUERY: &[Parameter] =
    &[parameter("To", Kind::Text, "Only those that fit this E.164 number.")];
const USAGE_QUERY: &[Parameter] = &[
    parameter("StartDate", Kind::Time, "The first day (UTC); 29 days before the last if not said."),
    parameter("EndDate", Kind::Time, "The last day, which counts; today if not said."),
];

use ApiRole::{Admin, Auditor, Operator, Read};
const ANYONE: &[ApiRole] = &[];
const ALL: &[ApiRole] = &[Admin, Operator, Auditor, Read];

/// Writes a route's code as the list wants it.
macro_rules! run {
    ($function:path) => {
        |app, input| Box::pin($function(app, input))
    };
}

fn schema<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

pub static ROUTES: &[Route] = &[
    Route {
        operation: "region_show",
        method: Method::GET,
        path: "/v1/region",
        roles: ANYONE,
        audit: Audit::No,
        summary: "The region, its law, what it offers, and where the others are.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<region::RegionView>)),
        run: run!(region::show),
    },
    Route {
        operation: "openapi_show",
        method: Method::GET,
        path: "/openapi.json",
        roles: ANYONE,
        audit: Audit::No,
        summary: "This document.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<serde_json::Map<String, serde_json::Value>>)),
        run: run!(region::openapi),
    },
    Route {
        operation: "account_show",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}.json",
        roles: ALL,
        audit: Audit::No,
        summary: "The key's account.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<account::AccountView>)),
        run: run!(account::show),
    },
    Route {
        operation: "account_update",
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Changes the account's policies.",
        query: &[],
        body: Some(schema::<account::AccountUpdate>),
        success: (200, Content::Json(schema::<account::AccountView>)),
        run: run!(account::update),
    },
    Route {
        operation: "call_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Calls.json",
        roles: ALL,
        audit: Audit::Read,
        summary: "Calls, the newest first. Who called whom is for operator and read.",
        query: CALL_QUERY,
        body: None,
        success: (200, Content::Json(schema::<calls::CallPage>)),
        run: run!(calls::list),
    },
    Route {
        operation: "call_start",
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}/Calls.json",
        roles: &[Operator],
        audit: Audit::Write,
        summary: "Rings `From`, a user of the account, and when it has answered, `To`; joins them.",
        query: &[],
        body: Some(schema::<calls::CallNew>),
        success: (201, Content::Json(schema::<calls::CallView>)),
        run: run!(calls::create),
    },
    Route {
        operation: "call_show",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Calls/{call}.json",
        roles: ALL,
        audit: Audit::Read,
        summary: "One call with its legs.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<calls::CallView>)),
        run: run!(calls::show),
    },
    Route {
        operation: "call_hang_up",
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}/Calls/{call}.json",
        roles: &[Operator],
        audit: Audit::Write,
        summary: "Ends a call that is under way, with `Status=completed`. 202 where its record is not closed yet.",
        query: &[],
        body: Some(schema::<calls::CallUpdate>),
        success: (200, Content::Json(schema::<calls::CallView>)),
        run: run!(calls::hang_up),
    },
    Route {
        operation: "call_receipt",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Calls/{call}/Receipt.json",
        roles: ALL,
        audit: Audit::Read,
        summary: "The call's signed receipt with its place in the region's log, as `landline receipt verify` takes it.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<receipts::ReceiptFile>)),
        run: run!(receipts::of_call),
    },
    Route {
        operation: "call_recording_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Calls/{call}/Recordings.json",
        roles: ALL,
        audit: Audit::Read,
        summary: "The recordings of one call.",
        query: RECORDING_QUERY,
        body: None,
        success: (200, Content::Json(schema::<recordings::RecordingPage>)),
        run: run!(recordings::of_call),
    },
    Route {
        operation: "recording_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Recordings.json",
        roles: ALL,
        audit: Audit::Read,
        summary: "Recordings, the newest first; deleted ones are left out.",
        query: RECORDING_QUERY,
        body: None,
        success: (200, Content::Json(schema::<recordings::RecordingPage>)),
        run: run!(recordings::list),
    },
    Route {
        operation: "recording_show",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Recordings/{recording}.json",
        roles: ALL,
        audit: Audit::Read,
        summary: "What is known of one recording.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<recordings::RecordingView>)),
        run: run!(recordings::show),
    },
    Route {
        operation: "recording_media",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Recordings/{recording}.wav",
        roles: &[Operator],
        audit: Audit::Read,
        summary: "The recording itself: the caller left, the callee right.",
        query: &[],
        body: None,
        success: (200, Content::Media("audio/wav")),
        run: run!(recordings::media),
    },
    Route {
        operation: "recording_delete",
        method: Method::DELETE,
        path: "/2010-04-01/Accounts/{account}/Recordings/{recording}.json",
        roles: &[Operator],
        audit: Audit::Write,
        summary: "Removes the audio; that there was a recording stays known.",
        query: &[],
        body: None,
        success: (204, Content::Nothing),
        run: run!(recordings::delete),
    },
    Route {
        operation: "number_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json",
        roles: &[Admin, Operator],
        audit: Audit::Read,
        summary: "The account's numbers and where they lead.",
        query: PAGES,
        body: None,
        success: (200, Content::Json(schema::<numbers::NumberPage>)),
        run: run!(numbers::list),
    },
    Route {
        operation: "number_create",
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Leads a number to a user or a trunk.",
        query: &[],
        body: Some(schema::<numbers::NumberNew>),
        success: (201, Content::Json(schema::<numbers::NumberView>)),
        run: run!(numbers::create),
    },
    Route {
        operation: "number_show",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/IncomingPhoneNumbers/{number}.json",
        roles: &[Admin, Operator],
        audit: Audit::Read,
        summary: "One number.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<numbers::NumberView>)),
        run: run!(numbers::show),
    },
    Route {
        operation: "number_delete",
        method: Method::DELETE,
        path: "/2010-04-01/Accounts/{account}/IncomingPhoneNumbers/{number}.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Gives a number up.",
        query: &[],
        body: None,
        success: (204, Content::Nothing),
        run: run!(numbers::delete),
    },
    Route {
        operation: "user_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Users.json",
        roles: &[Admin, Operator],
        audit: Audit::Read,
        summary: "The account's users.",
        query: PAGES,
        body: None,
        success: (200, Content::Json(schema::<users::UserPage>)),
        run: run!(users::list),
    },
    Route {
        operation: "user_create",
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}/Users.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Adds a user; a password that is made is shown once.",
        query: &[],
        body: Some(schema::<users::UserNew>),
        success: (201, Content::Json(schema::<users::UserView>)),
        run: run!(users::create),
    },
    Route {
        operation: "user_show",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Users/{user}.json",
        roles: &[Admin, Operator],
        audit: Audit::Read,
        summary: "One user, by sid or name.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<users::UserView>)),
        run: run!(users::show),
    },
    Route {
        operation: "user_update",
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}/Users/{user}.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Changes a user.",
        query: &[],
        body: Some(schema::<users::UserUpdate>),
        success: (200, Content::Json(schema::<users::UserView>)),
        run: run!(users::update),
    },
    Route {
        operation: "user_delete",
        method: Method::DELETE,
        path: "/2010-04-01/Accounts/{account}/Users/{user}.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Removes a user with its registrations and its number.",
        query: &[],
        body: None,
        success: (204, Content::Nothing),
        run: run!(users::delete),
    },
    Route {
        operation: "route_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Routes.json",
        roles: &[Admin, Operator],
        audit: Audit::Read,
        summary: "Which trunks numbers of nobody go out by: the longest prefix first.",
        query: ROUTE_QUERY,
        body: None,
        success: (200, Content::Json(schema::<routes::RouteList>)),
        run: run!(routes::list),
    },
    Route {
        operation: "trunk_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Trunks.json",
        roles: &[Admin, Operator],
        audit: Audit::Read,
        summary: "The account's trunks.",
        query: PAGES,
        body: None,
        success: (200, Content::Json(schema::<trunks::TrunkPage>)),
        run: run!(trunks::list),
    },
    Route {
        operation: "trunk_create",
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}/Trunks.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Adds a trunk.",
        query: &[],
        body: Some(schema::<trunks::TrunkNew>),
        success: (201, Content::Json(schema::<trunks::TrunkView>)),
        run: run!(trunks::create),
    },
    Route {
        operation: "trunk_show",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Trunks/{trunk}.json",
        roles: &[Admin, Operator],
        audit: Audit::Read,
        summary: "One trunk, by sid or name.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<trunks::TrunkView>)),
        run: run!(trunks::show),
    },
    Route {
        operation: "trunk_delete",
        method: Method::DELETE,
        path: "/2010-04-01/Accounts/{account}/Trunks/{trunk}.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Removes a trunk that no number leads to.",
        query: &[],
        body: None,
        success: (204, Content::Nothing),
        run: run!(trunks::delete),
    },
    Route {
        operation: "key_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Keys.json",
        roles: &[Admin, Auditor],
        audit: Audit::Read,
        summary: "The account's keys, revoked ones included.",
        query: PAGES,
        body: None,
        success: (200, Content::Json(schema::<keys::KeyPage>)),
        run: run!(keys::list),
    },
    Route {
        operation: "key_create",
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}/Keys.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Makes a key; its secret is shown once.",
        query: &[],
        body: Some(schema::<keys::KeyNew>),
        success: (201, Content::Json(schema::<keys::KeyView>)),
        run: run!(keys::create),
    },
    Route {
        operation: "key_revoke",
        method: Method::DELETE,
        path: "/2010-04-01/Accounts/{account}/Keys/{key}.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "From now on the key opens nothing.",
        query: &[],
        body: None,
        success: (204, Content::Nothing),
        run: run!(keys::revoke),
    },
    Route {
        operation: "webhook_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Webhooks.json",
        roles: &[Admin, Auditor],
        audit: Audit::Read,
        summary: "Where the account wants to be told of events.",
        query: PAGES,
        body: None,
        success: (200, Content::Json(schema::<webhooks::WebhookPage>)),
        run: run!(webhooks::list),
    },
    Route {
        operation: "webhook_create",
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}/Webhooks.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Adds an address that is told of events; a secret that is made is shown once.",
        query: &[],
        body: Some(schema::<webhooks::WebhookNew>),
        success: (201, Content::Json(schema::<webhooks::WebhookView>)),
        run: run!(webhooks::create),
    },
    Route {
        operation: "webhook_show",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Webhooks/{webhook}.json",
        roles: &[Admin, Auditor],
        audit: Audit::Read,
        summary: "One webhook.",
        query: &[],
        body: None,
        success: (200, Content::Json(schema::<webhooks::WebhookView>)),
        run: run!(webhooks::show),
    },
    Route {
        operation: "webhook_delete",
        method: Method::DELETE,
        path: "/2010-04-01/Accounts/{account}/Webhooks/{webhook}.json",
        roles: &[Admin],
        audit: Audit::Write,
        summary: "Removes a webhook and what waits for it.",
        query: &[],
        body: None,
        success: (204, Content::Nothing),
        run: run!(webhooks::delete),
    },
    Route {
        operation: "webhook_delivery_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Webhooks/{webhook}/Deliveries.json",
        roles: &[Admin, Auditor],
        audit: Audit::Read,
        summary: "Events that wait for the webhook, and those that were given up in the last seven days.",
        query: DELIVERY_QUERY,
        body: None,
        success: (200, Content::Json(schema::<webhooks::DeliveryPage>)),
        run: run!(webhooks::deliveries),
    },
    Route {
        operation: "usage_show",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Usage.json",
        roles: ALL,
        audit: Audit::No,
        summary: "Calls and minutes by day and direction, computed in the region.",
        query: USAGE_QUERY,
        body: None,
        success: (200, Content::Json(schema::<usage::UsageView>)),
        run: run!(usage::show),
    },
    Route {
        operation: "residency_report",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/ResidencyReport.json",
        roles: &[Admin, Auditor],
        audit: Audit::Read,
        summary: "What the region states, signed, of where the account's calls of a period were; as `landline receipt verify` takes it.",
        query: REPORT_QUERY,
        body: None,
        success: (200, Content::Json(schema::<receipts::ReportFile>)),
        run: run!(receipts::report),
    },
    Route {
        operation: "audit_list",
        method: Method::GET,
        path: "/2010-04-01/Accounts/{account}/Audit.json",
        roles: &[Auditor],
        audit: Audit::Read,
        summary: "Who did what by this API, the newest first.",
        query: AUDIT_QUERY,
        body: None,
        success: (200, Content::Json(schema::<audit::AuditPage>)),
        run: run!(audit::list),
    },
];

/// What stands in a path's places, by their names.
type PathParameters = Vec<(&'static str, String)>;

/// The route of a request, and what stands for the braces in its path.
pub fn find(method: &Method, path: &str) -> Result<(&'static Route, PathParameters), Problem> {
    // RFC 9110 §9.3.2: HEAD is GET without the answer's body.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for route in ROUTES {
        if let Some(parts) = matched(route.path, path) {
            if route.method == *method {
                return Ok((route, parts));
            }
            allowed.push(route.method.as_str());
        }
    }
    if allowed.is_empty() {
        return Err(Problem::not_found("no such path; /openapi.json names those there are"));
    }
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    let allowed = allowed.join(", ");
    let detail = format!("this path takes {allowed}");
    let title = "The path does not take this method";
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", title, detail);
    Err(problem.with_header(header::ALLOW, &allowed))
}

fn matched(template: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut parts = Vec::new();
    let mut segments = path.split('/');
    for wanted in template.split('/') {
        let found = segments.next()?;
        match wanted.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            None if wanted == found => {}
            None => return None,
            Some((name, suffix)) => {
                let value = found.strip_suffix(suffix).filter(|value| !value.is_empty())?;
                let value = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
                parts.push((name, value.into_owned()));
            }
        }
    }
    segments.next().is_none().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_matched_by_segment_and_suffix() {
        let template = "/Accounts/{account}/Users/{user}.json";
        let found = matched(template, "/Accounts/AC1/Users/a%2Fb.c.json").unwrap();
        assert_eq!(found, [("account", "AC1".to_owned()), ("user", "a/b.c".to_owned())]);
        for other in [
            "/Accounts/AC1/Users/.json",
            "/Accounts/AC1/Users/a",
            "/Accounts//Users/a.json",
            "/Accounts/AC1/Users/a.json/",
            "/Accounts/AC1/Users/%ff.json",
        ] {
            assert_eq!(matched(template, other), None, "{other}");
        }
    }

    #[test]
    fn names_and_paths_are_unique_and_personal_routes_want_a_key() {
        let mut names: Vec<_> = ROUTES.iter().map(|route| route.operation).collect();
        let mut paths: Vec<_> =
            ROUTES.iter().map(|route| (route.method.as_str(), route.path)).collect();
        names.sort_unstable();
        names.dedup();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!((names.len(), paths.len()), (ROUTES.len(), ROUTES.len()));
        for route in ROUTES {
            let open = route.roles.is_empty();
            assert!(!open || route.audit == Audit::No, "{}", route.operation);
            let changes = route.method != Method::GET;
            assert_eq!(changes, route.audit == Audit::Write, "{}", route.operation);
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let problem = find(&Method::DELETE, "/v1/region").err().unwrap();
        let answer = problem.into_response("/v1/region");
        assert_eq!(answer.headers()[header::ALLOW], "GET, HEAD");
        assert!(find(&Method::HEAD, "/v1/region").is_ok());
    }
}
