//! The one way to write a statement down in octets: JSON canonicalisation,
//! RFC 8785, over I-JSON (RFC 7493) with whole numbers only. Whoever has the
//! JSON can make the signed octets again with any implementation of that RFC.

use serde::Serialize;
use serde_json::Value;

/// RFC 7493 §2.2: beyond this, numbers are not the same everywhere.
const LARGEST: u64 = (1 << 53) - 1;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no canonical JSON: {0}")]
pub struct NotCanonical(String);

/// The octets that are signed and hashed.
pub fn canonical(statement: &impl Serialize) -> Result<Vec<u8>, NotCanonical> {
    let value = serde_json::to_value(statement).map_err(|error| NotCanonical(error.to_string()))?;
    let mut octets = Vec::with_capacity(1024);
    write(&value, &mut octets)?;
    Ok(octets)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let whole = number.as_i64().map(i64::unsigned_abs).or(number.as_u64());
            if whole.is_none_or(|number| number > LARGEST) {
                return Err(NotCanonical(format!("{number} is not a whole number below 2^53")));
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_string(text, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => write_object(fields, out)?,
    }
    Ok(())
}

/// RFC 8785 §3.2.3: members in the order of their names' UTF-16 code units.
fn write_object(
    fields: &serde_json::Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), NotCanonical> {
    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
    fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push(b'{');
    for (index, (name, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(name, out)?;
        out.push(b':');
        write(value, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// RFC 8785 §3.2.2.2: its escapes are the ones that `serde_json` uses, short
/// ones first and `\u00xx` in lower case, everything else as it is.
fn write_string(text: &str, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    serde_json::to_writer(out, text).map_err(|error| NotCanonical(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> String {
        let value: Value = serde_json::from_str(json).unwrap();
        String::from_utf8(canonical(&value).unwrap()).unwrap()
    }

    #[test]
    fn the_examples_of_rfc_8785_come_out_as_printed_there() {
        // §3.2.2: strings and literals.
        let strings = r#"{"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
                          "literals":[null, true, false]}"#;
        let wanted =
            "{\"literals\":[null,true,false],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(of(strings), wanted);
        // §3.2.3: sorting, where UTF-16 and UTF-8 disagree on the last two.
        let sorting =
            r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
        let wanted = "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}";
        assert_eq!(of(sorting), wanted);
    }

    #[test]
    fn numbers_that_are_not_the_same_everywhere_are_refused() {
        assert_eq!(
            of("[0,-1,9007199254740991,-9007199254740991]"),
            "[0,-1,9007199254740991,-9007199254740991]"
        );
        for bad in ["1.5", "1e3", "9007199254740992", "-9007199254740992", "18446744073709551615"] {
            let value: Value = serde_json::from_str(bad).unwrap();
            assert!(canonical(&value).is_err(), "{bad}");
        }
    }
}
