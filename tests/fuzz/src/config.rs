//! Config files.

use catchment::config::{BackupPlan, Config, Overrides, RunOptions};

/// What is in effect, printed, is a file with the same effect; what is refused is refused with words.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let config = match Config::parse(text, "backup.toml") {
        Ok(config) => config,
        Err(problems) => {
            assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.to_string().is_empty()));
            return;
        }
    };
    for rule in config.rules.keys() {
        let Ok(plan) = plan_of(&config, rule) else { continue };
        let printed = plan.to_toml();
        let again = Config::parse(&printed, "printed.toml").map_err(|problems| format!("{problems:#?}\n{printed}"));
        let plan = again.and_then(|again| plan_of(&again, rule).map_err(|problems| format!("{problems:#?}\n{printed}")));
        assert_eq!(plan.map(|plan| plan.to_toml()), Ok(printed), "printed and read again");
    }
}

fn plan_of(config: &Config, rule: &str) -> Result<BackupPlan, Vec<catchment::Error>> {
    BackupPlan::new(config, Overrides { rule: Some(rule.to_owned()), ..Overrides::default() }, RunOptions::default())
}
