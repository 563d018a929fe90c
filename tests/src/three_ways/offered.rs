//! Everything that API, command line and console offer, as [`ThreeWays::executed`] notes it: what the API says of itself, the subcommands of `catchment rule` and
//! `catchment token`, the forms of the console's templates.

use std::collections::BTreeSet;
use std::path::Path;

use super::ThreeWays;

/// Everything that the API, the command line and the console offer.
///
/// # Panics
/// If the description or the templates cannot be read.
pub fn offered(ways: &ThreeWays) -> BTreeSet<String> {
    let api = ways.ask("GET /openapi.json", "").json();
    let calls = api["paths"].as_object().expect("paths").iter().flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten().map(|(method, _)| method.to_uppercase());
        methods.map(move |method| format!("{method} {path}"))
    });
    let command = catchment::cli::command();
    let commands = ["rule", "token"].into_iter().flat_map(|verb| {
        let found = command.find_subcommand(verb).unwrap_or_else(|| panic!("there is `catchment {verb}`"));
        found.get_subcommands().map(move |command| format!("{verb} {}", command.get_name()))
    });
    calls.chain(commands).chain(forms()).collect()
}

/// The addresses of the console's forms, by its templates.
fn forms() -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/templates/console");
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let texts = entries.map(|entry| std::fs::read_to_string(entry.expect("a template").path()).expect("a template"));
    let mut forms = BTreeSet::new();
    for text in texts {
        for form in text.split("<form ").skip(1).filter(|form| form.starts_with("method=\"post\"")) {
            let action = form.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form has an action");
            let action = action.replace("{{ name }}", "{name}").replace("{{ c.name }}", "{name}").replace("{{ token.name }}", "{name}");
            let bases = if action.contains("{{ base }}") { vec!["/console/sources", "/console/stores"] } else { vec![""] };
            forms.extend(bases.into_iter().map(|base| format!("form {}", action.replace("{{ base }}", base))));
        }
    }
    assert!(forms.len() >= 15, "the templates have forms: {forms:?}");
    forms
}
