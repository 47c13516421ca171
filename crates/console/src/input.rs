//! A request as a route's code sees it: matched, authenticated, read.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use landline_call::tenancy::User;
use landline_region::{AccountSid, UnixMillis};
use landline_store::ApiKey;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::route::Route;

pub struct Input {
    pub route: &'static Route,
    /// The path as it was asked for, for what an answer says of itself.
    pub path: String,
    /// What stands for the braces in the route's path.
    pub parts: Vec<(&'static str, String)>,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub source: IpAddr,
    /// `None` on routes that are open to anyone, and on users' own.
    pub key: Option<ApiKey>,
    /// Who asks for what is the user's own.
    pub user: Option<User>,
}

impl Input {
    /// Who asks, as the log and its statements name it.
    pub fn actor(&self) -> String {
        match (&self.key, &self.user) {
            (Some(key), _) => key.sid.to_string(),
            (None, Some(user)) => user.sid.to_string(),
            (None, None) => "api".to_owned(),
        }
    }

    pub fn part(&self, name: &str) -> &str {
        let found = self.parts.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A sid in the path. What is none cannot be found.
    pub fn sid<T: FromStr<Err: ToString>>(&self, name: &str) -> Result<T, Problem> {
        self.part(name).parse().map_err(|error: T::Err| Problem::not_found(error.to_string()))
    }

    /// The key's account, which is the path's, or the user's.
    pub fn account(&self) -> Result<AccountSid, Problem> {
        let of_key = self.key.as_ref().map(|key| key.account);
        of_key.or_else(|| Some(self.user.as_ref()?.account)).ok_or_else(Problem::internal)
    }

    /// Who asks, on a route that is for users.
    pub fn user(&self) -> Result<&User, Problem> {
        self.user.as_ref().ok_or_else(Problem::internal)
    }

    /// The fields of the body, from JSON or from a form.
    pub fn fields<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let fields = match self.media_type().as_str() {
            "application/json" => json(&self.body)?,
            "application/x-www-form-urlencoded" => form(&self.body),
            "" if self.body.is_empty() => Map::new(),
            other => {
                let other: String = other.chars().take(64).collect();
                return Err(Problem::new(
                    axum::http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "media-type",
                    "The body's type is not known here",
                    format!(
                        "`{other}` is neither application/json nor application/x-www-form-urlencoded"
                    ),
                ));
            }
        };
        serde_json::from_value(Value::Object(fields))
            .map_err(|error| Problem::bad_request(format!("body: {error}")))
    }

    pub fn media_type(&self) -> String {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = value.unwrap_or_default().split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    }

    pub fn header(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn json(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("body: wanted a JSON object: {error}")))
}

/// The 2010 API's forms write `PageSize` where its JSON writes `page_size`.
/// What is said twice is a list.
fn form(body: &[u8]) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        let value = Value::String(value.into_owned());
        match fields.entry(snake_case(&name)) {
            serde_json::map::Entry::Vacant(entry) => {
                entry.insert(value);
            }
            serde_json::map::Entry::Occupied(mut entry) => match entry.get_mut() {
                Value::Array(values) => values.push(value),
                first => *first = Value::Array(vec![first.take(), value]),
            },
        }
    }
    fields
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The parameters of the query, each at most once and each known to the route.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

/// The largest and the usual page.
pub const PAGE_SIZES: (u32, u32) = (1000, 50);

impl Query {
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let name: String = name.chars().take(64).collect();
                let wanted = match known {
                    [] => "this takes none".to_owned(),
                    _ => format!("wanted some of {}", known.join(", ")),
                };
                return Err(Problem::bad_request(format!(
                    "query: `{name}` is not known: {wanted}"
                )));
            }
            if parameters.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Problem::invalid(&name, "it is given twice"));
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(parameters))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn value<T: FromStr<Err: ToString>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let parsed = self.text(name).map(str::parse).transpose();
        parsed.map_err(|error: T::Err| Problem::invalid(name, error.to_string()))
    }

    pub fn time(&self, name: &str) -> Result<Option<UnixMillis>, Problem> {
        let wanted = "wanted a date or a time, as 2026-11-22 or 2026-11-22T12:00:00Z";
        let parsed =
            self.text(name).map(|text| text.parse().map_err(|_| Problem::invalid(name, wanted)));
        parsed.transpose()
    }

    pub fn page_size(&self) -> Result<u32, Problem> {
        let (most, usual) = PAGE_SIZES;
        match self.value::<u32>("PageSize")?.unwrap_or(usual) {
            size if (1..=most).contains(&size) => Ok(size),
            _ => Err(Problem::invalid("PageSize", format!("wanted 1 to {most}"))),
        }
    }

    /// The query again, with another place to begin; `None` is the first page.
    pub fn with_token(&self, token: Option<&str>) -> String {
        let mut written = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.0.iter().filter(|(name, _)| name != crate::cursor::PARAMETER) {
            written.append_pair(name, value);
        }
        if let Some(token) = token {
            written.append_pair(crate::cursor::PARAMETER, token);
        }
        written.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_form_reads_as_its_json_does() {
        let fields = form(b"Status=completed&AcceptFrom=192.0.2.0%2F24&AcceptFrom=::1&url=a+b");
        assert_eq!(
            Value::Object(fields),
            json!({"status": "completed", "accept_from": ["192.0.2.0/24", "::1"], "url": "a b"})
        );
    }

    #[test]
    fn a_query_holds_what_the_route_knows_and_each_once() {
        let query = Query::parse("PageSize=7&From=%2B353", &["From", "PageSize"]).unwrap();
        assert_eq!((query.page_size().unwrap(), query.text("From")), (7, Some("+353")));
        assert_eq!(query.with_token(Some("t")), "PageSize=7&From=%2B353&PageToken=t");
        for bad in ["Form=1", "From=1&From=2"] {
            assert!(Query::parse(bad, &["From", "PageSize"]).is_err(), "{bad}");
        }
        for bad in ["PageSize=0", "PageSize=1001", "PageSize=x", "PageSize=-1"] {
            assert!(Query::parse(bad, &["PageSize"]).unwrap().page_size().is_err(), "{bad}");
        }
    }
}
