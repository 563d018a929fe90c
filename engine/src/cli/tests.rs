//! The book and the binary: every flag, key and code is explained, and every code is used once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Parser as _;

use super::*;
use crate::config::keys::KEYS;
use crate::verify::DamageKind;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap_or_else(|e| panic!("docs/{name}: {e}"))
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    command().debug_assert();
}

fn walk(command: &clap::Command, path: &str, visit: &mut dyn FnMut(&str, &clap::Arg)) {
    command.get_arguments().for_each(|arg| visit(path, arg));
    for verb in command.get_subcommands().filter(|v| !v.is_hide_set()) {
        walk(verb, &format!("{path} {}", verb.get_name()), visit);
    }
}

#[test]
fn every_flag_has_help_and_stands_in_the_book() {
    let book = page("cli.md");
    walk(&command(), "catchment", &mut |path, arg| {
        assert!(arg.get_help().is_some(), "{path} {} has no help", arg.get_id());
        if let Some(long) = arg.get_long() {
            assert!(book.contains(&format!("`--{long}")), "docs/cli.md does not explain {path} --{long}");
        }
        if let Some(short) = arg.get_short() {
            assert!(book.contains(&format!("`-{short}")), "docs/cli.md does not explain {path} -{short}");
        }
    });
    for verb in command().get_subcommands().filter(|v| !v.is_hide_set()) {
        assert!(book.contains(&format!("## {}", verb.get_name())), "docs/cli.md has no section for {}", verb.get_name());
    }
}

#[test]
fn every_config_key_stands_in_the_book() {
    let book = page("config.md");
    for section in KEYS.iter().map(|k| k.section).collect::<BTreeSet<_>>() {
        let heading = format!("## `{}`", if section.contains('.') { section.to_owned() } else { format!("{section}.NAME") });
        let (_, rest) = book.split_once(&heading).unwrap_or_else(|| panic!("docs/config.md has no {heading}"));
        let body = rest.split("\n## ").next().unwrap_or_default();
        for key in KEYS.iter().filter(|k| k.section == section) {
            assert!(body.contains(&format!("| `{}`", key.name)), "docs/config.md: {heading} lacks {}", key.name);
        }
    }
}

/// Rust files below a directory, without tests.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
            found.push(path);
        }
    }
}

/// Where each code is written as a number: once, or what it means would drift apart.
fn codes_in_source() -> BTreeMap<u16, Vec<String>> {
    let (mut files, mut codes) = (Vec::new(), BTreeMap::new());
    ["engine/src", "engine/protocol/src"].iter().for_each(|dir| sources(&root().join(dir), &mut files));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (line, piece) in code.lines().enumerate().flat_map(|(n, l)| l.split("Code(").skip(1).map(move |p| (n + 1, p))) {
            let digits: String = piece.chars().take_while(char::is_ascii_digit).collect();
            if let Ok(number) = digits.parse() {
                codes.entry(number).or_insert_with(Vec::new).push(format!("{}:{line}", file.display()));
            }
        }
    }
    codes
}

#[test]
fn every_code_is_written_once_and_stands_in_the_book() {
    let book = page("errors.md");
    let codes = codes_in_source();
    assert!(codes.len() > 40, "the search finds codes: {}", codes.len());
    let repeated: Vec<_> = codes.iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(repeated.is_empty(), "codes written more than once: {repeated:#?}");
    let lacking: Vec<String> = codes.keys().map(|n| format!("C{n:04}")).filter(|c| !book.contains(&format!("\n### {c}: "))).collect();
    assert!(lacking.is_empty(), "docs/errors.md has no section for {lacking:?}");
    let explained: BTreeSet<u16> = book.lines().filter_map(|l| l.strip_prefix("### C")?.get(..4)?.parse().ok()).collect();
    let unused: Vec<_> = explained.iter().filter(|n| !codes.contains_key(n)).collect();
    assert!(unused.is_empty(), "docs/errors.md explains codes that nothing uses: {unused:?}");
}

#[test]
fn every_kind_of_damage_stands_in_the_book() {
    let book = page("errors.md");
    for kind in DamageKind::ALL {
        assert!(book.contains(&format!("| `{kind}`")), "docs/errors.md does not explain {kind}");
    }
}

#[test]
fn refusals_look_like_every_other_error() {
    let refused = |args: &[&str]| usage::to_error(&Cli::try_parse_from(args).unwrap_err());
    let unknown = refused(&["catchment", "backup", "--windw", "5m"]);
    assert_eq!(unknown.message, "unexpected argument '--windw' found");
    assert!(unknown.help.unwrap().contains("--window"));
    let value = refused(&["catchment", "backup", "t", "--window", "5"]);
    assert!(value.message.contains("5m for minutes"), "{value}");
    let level = refused(&["catchment", "backup", "t", "--level", "most"]);
    assert!(level.message.contains("\"most\" is not a level"), "{level}");
    let word = refused(&["catchment", "backup", "t", "--window-by", "arival"]);
    assert!(word.cause.unwrap().contains("record-time, arrival"));
    assert_eq!(word.kind.exit_code(), 2);
    for (verb, text) in [("backup", "hunter2"), ("verify", "hunter2"), ("backup", "=hunter2")] {
        let secret = refused(&["catchment", verb, "t", "-X", text]);
        assert!(!format!("{secret:?}").contains("hunter2"), "what may be a secret is not repeated: {secret:?}");
        assert!(secret.message.contains("PROPERTY=VALUE") && secret.message.contains("--property"), "{secret}");
    }
    let verb = refused(&["catchment", "bakcup"]);
    assert!(verb.help.unwrap().contains("backup"));
}

#[test]
fn the_contract_for_scripts_parses() {
    let line = "catchment backup a b -b h:1,h:2 --to s3://lake/p/ --rule r --format raw --framing len32 --codec gzip --level 9 \
                --window 10m --window-by arrival --max-bytes 256MiB --start 0:5,1:7 --until-end --budget 1GiB --layout hive --accept foreign-commit \
                --accept truncation --metrics 127.0.0.1:9464 -X client.id=x -X sasl.password=p --preset ckafka -v";
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let Verb::Backup(args) = cli.verb else { panic!("it is a backup") };
    let error = args.clone().into_plan().unwrap_err();
    assert!(error[0].message.contains("offset"), "offsets of several topics: {error:?}");
    let one = line.replace("backup a b", "backup a");
    let Verb::Backup(args) = Cli::try_parse_from(one.split_whitespace()).unwrap().verb else { panic!("it is a backup") };
    let plan = args.into_plan().unwrap();
    assert_eq!(plan.kafka.brokers, ["h:1", "h:2"]);
    assert_eq!(plan.encoding.to_string(), "raw.len32.gzip9.v1");
    assert_eq!(plan.options.accept.len(), 2);
    assert!(plan.options.until_end && plan.kafka.preset.is_some() && plan.metrics.is_some());
    let auto = one.replace("--codec gzip --level 9", "--level auto");
    let Verb::Backup(args) = Cli::try_parse_from(auto.split_whitespace()).unwrap().verb else { panic!("it is a backup") };
    let plan = args.into_plan().unwrap();
    assert_eq!((plan.auto_level, plan.encoding.to_string().as_str()), (true, "raw.len32.zstd1.v1"));
    for args in [
        &["catchment", "verify", "s3://b/p/", "-b", "h:1", "--json"][..],
        &["catchment", "ls", "s3://b/p/", "--json"],
        &["catchment", "show", "x.parquet", "-n", "3"],
        &["catchment", "config", "check", "f.toml"],
        &["catchment", "config", "schema"],
        &["catchment", "completions", "zsh"],
        &["catchment", "demo"],
    ] {
        assert!(Cli::try_parse_from(args).is_ok(), "{args:?}");
    }
}

#[test]
fn a_page_of_a_list_is_asked_for_in_one_way_at_a_time() {
    let parses = |line: &str| Cli::try_parse_from(format!("catchment rule {line}").split_whitespace()).is_ok();
    for line in [
        "windows a --before 7 --limit 3",
        "log a --after 7 --limit 3",
        "log a --before 7",
        "log a -f --after 7",
        "audit --limit 3",
        "audit a --before 7",
    ] {
        assert!(parses(line), "{line}");
    }
    for line in
        ["log a --after 7 --before 9", "log a --follow --limit 3", "log a --follow --before 9", "windows a --after 7", "audit --follow"]
    {
        assert!(!parses(line), "{line}");
    }
}

#[test]
fn the_first_error_decides_the_exit_code() {
    use crate::error::{ErrorKind, codes};
    let error = |kind| Error::new(codes::USAGE, kind, "x");
    for (kind, code) in [
        (ErrorKind::Invalid, 2),
        (ErrorKind::NotFound, 3),
        (ErrorKind::Corrupt, 4),
        (ErrorKind::Unreachable, 5),
        (ErrorKind::Fenced, 6),
        (ErrorKind::Denied, 1),
    ] {
        assert_eq!(exit_code(&[error(kind), error(ErrorKind::Bug)]), code);
    }
}
