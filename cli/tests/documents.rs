//! The schemas in docs/ are those of the types.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use guard_core::message::AlertMessage;
use privatelink_guard::output::json::CheckOutput;
use privatelink_guard::status::known::GuardStatus;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

fn schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// With `UPDATE_EXAMPLES` set, writes them (`make docs`).
#[test]
fn the_documented_schemas_are_those_of_the_types() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs");
    let schemas = [
        ("alert", schema::<AlertMessage<'_>>()),
        ("check", schema::<CheckOutput<'_>>()),
        ("status", schema::<GuardStatus>()),
    ];
    for (name, schema) in schemas {
        let (path, text) = (docs.join(format!("{name}.schema.json")), format!("{:#}\n", schema.as_value()));
        if std::env::var_os("UPDATE_EXAMPLES").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), text, "run `make docs`");
    }
}
