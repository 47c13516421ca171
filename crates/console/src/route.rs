//! What can be asked, and how a request finds it.

mod table;

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

pub use table::ROUTES;

/// One thing that can be asked.
pub struct Route {
    /// Its name, the object first: in the audit, in metrics, as `operationId`.
    pub operation: &'static str,
    pub method: Method,
    /// `{NAME}` stands for one segment, or for a segment up to its suffix.
    pub path: &'static str,
    pub who: Who,
    pub audit: Audit,
    pub summary: &'static str,
    pub query: &'static [Parameter],
    pub body: Option<Describe>,
    /// The status of success, and what comes with it.
    pub success: (u16, Content),
    pub run: Run,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Anyone,
    /// Keys of the account that have one of these roles.
    Keys(&'static [ApiRole]),
    /// A user of the path's domain, by the phone's password, for what is the user's own.
    User,
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
            let open = route.who == Who::Anyone;
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
