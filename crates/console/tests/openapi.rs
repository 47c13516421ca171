//! The document that is shipped is the one that the code writes.

use std::path::Path;

#[test]
fn the_shipped_document_is_what_the_routes_and_types_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let written =
        serde_json::to_string_pretty(&landline_console::openapi::document()).unwrap() + "\n";
    let shipped = std::fs::read_to_string(&file).unwrap_or_default();
    if shipped != written && std::env::var_os("LANDLINE_WRITE_OPENAPI").is_some() {
        return std::fs::write(&file, written).unwrap();
    }
    assert!(
        shipped == written,
        "docs/openapi.json is not what the code says: run this test with LANDLINE_WRITE_OPENAPI=1 \
         and look at what changed"
    );
}

#[test]
fn every_reference_leads_somewhere() {
    let document = landline_console::openapi::document();
    let text = document.to_string();
    let references = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next());
    let mut count = 0;
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
