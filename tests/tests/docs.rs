//! The documentation is executed: its config files pass the check, its command lines are understood, its links lead somewhere.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use catchment_tests::kafka_cells;
use catchment_tests::process::{Exit, Program};

/// Where nothing listens, in the place of any server that a page names.
const NOWHERE: &str = "127.0.0.1:1";

/// How long a command may take to find that out.
const LIMIT: Duration = Duration::from_secs(60);

/// A page of the documentation.
struct Page {
    /// From the root of the repository: `docs/cli.md`.
    name: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages() -> Vec<Page> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs/ can be listed").flatten();
    let docs = docs.map(|entry| format!("docs/{}", entry.file_name().to_string_lossy())).filter(|name| name.ends_with(".md"));
    let mut names: Vec<String> = ["README.md".to_owned(), "CHANGELOG.md".to_owned()].into_iter().chain(docs).collect();
    names.sort();
    let text = |name: &String| std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    names.into_iter().map(|name| Page { text: text(&name), name }).collect()
}

impl Page {
    /// The fenced blocks of this language.
    fn blocks(&self, language: &str) -> Vec<String> {
        let (mut blocks, mut open) = (Vec::new(), None);
        for line in self.text.lines() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(found)) => open = Some((found == language, String::new())),
                (Some((wanted, text)), Some(_)) => {
                    blocks.extend(wanted.then(|| std::mem::take(text)));
                    open = None;
                }
                (Some((_, text)), None) => *text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.name);
        blocks
    }

    /// The text without its blocks.
    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// What stands in `code` in the prose, line by line.
    fn spans(&self) -> Vec<String> {
        let prose = self.prose();
        prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
    }
}

/// The command lines of a console block, without prompts and remarks.
fn commands(block: &str) -> impl Iterator<Item = &str> {
    block.lines().filter_map(|line| line.strip_prefix("$ ")).map(|line| line.split(" #").next().unwrap_or(line).trim_end())
}

/// The words of a command line as a shell takes them: quotes hold a word together and are no part of it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().expect("there is a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A command line without variables that could lead it to a real account.
fn program<S: AsRef<OsStr>>(words: &[S]) -> Program {
    let endpoint = format!("http://{NOWHERE}");
    let account = [("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "nothing"), ("AWS_REGION", "us-east-1")];
    Program::new(words).envs(account).envs([("AWS_ENDPOINT_URL", endpoint.as_str())])
}

/// What becomes of a command line that ends in `--help`, which keeps it from doing anything: what stands before is parsed first.
fn with_help<S: AsRef<OsStr>>(words: &[S]) -> Exit {
    program(words).args(["--help"]).run(LIMIT)
}

#[track_caller]
fn assert_understood(page: &str, words: &[String]) {
    let exit = with_help(words);
    assert_eq!(exit.code(), Some(0), "{page}: catchment {}: {}", words.join(" "), exit.stderr);
}

#[test]
fn every_config_file_of_the_pages_passes_the_check() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks("toml") {
            let path = directory.path().join("catchment.toml");
            std::fs::write(&path, &block).expect("the directory is writable");
            let exit = program(&[OsStr::new("config"), OsStr::new("check"), path.as_os_str()]).run(LIMIT);
            // A part of a file has no rule; what it has must still be known.
            let expected = if block.contains("[rule.") { "1 rule(s), no problem" } else { "0 rule(s), no problem" };
            assert!(exit.code() == Some(0) && exit.stdout.contains(expected), "{}:\n{block}{}{}", page.name, exit.stdout, exit.stderr);
            checked += 1;
        }
    }
    assert!(checked > 0, "the pages show a config file");
}

#[test]
fn every_command_line_of_the_consoles_is_understood() {
    let mut understood = BTreeSet::new();
    for page in pages() {
        for block in page.blocks("console") {
            for command in commands(&block) {
                let words = words(command);
                match words[0].as_str() {
                    "catchment" => assert_understood(&page.name, &words[1..]),
                    script if script.contains('/') => assert!(root().join(script).is_file(), "{}: {script} is not there", page.name),
                    _ => {} // somebody else's program
                }
                understood.insert(words[..2.min(words.len())].join(" "));
            }
        }
    }
    for command in ["catchment backup", "catchment verify", "scripts/demo", "scripts/test"] {
        assert!(understood.contains(command), "no {command} among {understood:?}");
    }
}

#[test]
fn every_command_line_in_the_prose_is_understood() {
    let mut understood = 0;
    for page in pages() {
        // Neither a synopsis nor what a footer says of its writer is a command line.
        let is_other = |span: &String| span.contains(['|', '{', '[', '(']);
        for span in page.spans().iter().filter(|span| span.starts_with("catchment ") && !is_other(span)) {
            assert_understood(&page.name, &words(span)[1..]);
            understood += 1;
        }
    }
    assert!(understood >= 5, "the prose names commands: {understood}");
}

#[test]
fn help_behind_a_command_line_hides_no_mistake_before_it() {
    for words in
        [&["backup", "orders", "--windw", "5m"][..], &["backup", "orders", "--window", "5"], &["ls", "a", "b"], &["verfy", "s3://b/"]]
    {
        assert_eq!(with_help(words).code(), Some(2), "{words:?}");
    }
}

/// The words of a backup with its broker replaced by one that is not there, and its directory by one of the test's.
fn disconnected(command: &str, directory: &Path) -> Vec<String> {
    let local = format!("file://{}/", directory.display());
    let mut words: Vec<String> = words(command).into_iter().skip(1).map(|word| word.replace("file:///tmp/", &local)).collect();
    if let Some(flag) = words.iter().position(|word| word == "-b") {
        words[flag + 1] = NOWHERE.to_owned();
    }
    words
}

#[test]
fn every_backup_of_the_consoles_gets_as_far_as_the_broker() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut running = Vec::new();
    for page in pages() {
        for block in page.blocks("console") {
            for command in commands(&block).filter(|command| command.starts_with("catchment backup ")) {
                let process = program(&disconnected(command, directory.path())).spawn();
                running.push((format!("{}: {command}", page.name), process));
            }
        }
    }
    assert!(!running.is_empty(), "the pages show how to back up");
    for (command, process) in running {
        let exit = process.wait(LIMIT);
        // Settings that do not go together would have been refused before that, with exit code 2.
        assert_eq!(exit.code(), Some(5), "{command}: {}", exit.stderr);
        assert!(exit.stderr.contains("C0201") && exit.stderr.contains(NOWHERE), "{command}: {}", exit.stderr);
    }
}

/// The targets of `[text](target)`.
fn links(prose: &str) -> Vec<&str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// The anchor that a heading gets: lower case, without punctuation, dashes for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_leads_to_a_file_of_the_repository_and_a_heading_in_it() {
    let mut followed = 0;
    for page in pages() {
        let here = root().join(&page.name);
        let prose = page.prose();
        for link in links(&prose).into_iter().filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() { here.clone() } else { here.with_file_name(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.name);
            if let Some(heading) = heading {
                let text = std::fs::read_to_string(&target).unwrap_or_else(|e| panic!("{}: {e}", target.display()));
                assert!(anchors(&text).contains(heading), "{}: {link}: there is no such heading", page.name);
            }
            followed += 1;
        }
    }
    assert!(followed >= 10, "the pages have links: {followed}");
}

#[test]
fn every_path_that_the_pages_name_is_there() {
    const FOLDERS: [&str; 9] = ["engine/", "formats/", "tests/", "benches/", "loadtest/", "docs/", "scripts/", "deploy/", ".ci/"];
    let mut found = 0;
    for page in pages() {
        for span in page.spans() {
            let path = span.split([' ', '*']).next().unwrap_or_default();
            if FOLDERS.iter().any(|folder| path.starts_with(folder)) {
                assert!(root().join(path).exists(), "{}: {path} is not there", page.name);
                found += 1;
            }
        }
    }
    assert!(found >= 10, "the pages name paths: {found}");
}

/// Codes such as C0210 in a text.
fn codes(text: &str) -> BTreeSet<&str> {
    let starts = text.match_indices('C').filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_ascii_alphanumeric()));
    let code = |(at, _): (usize, &str)| text.get(at..at + 5).filter(|c| c[1..].bytes().all(|b| b.is_ascii_digit()));
    starts.filter_map(code).filter(|code| code.starts_with("C0")).collect()
}

#[test]
fn every_error_code_that_a_page_mentions_is_explained() {
    let pages = pages();
    let errors = &pages.iter().find(|page| page.name == "docs/errors.md").expect("docs/errors.md is a page").text;
    let explained: BTreeSet<&str> = errors.lines().filter_map(|line| line.strip_prefix("### ")?.get(..5)).collect();
    let mut mentioned = 0;
    for page in &pages {
        let unknown: Vec<_> = codes(&page.text).into_iter().filter(|code| !explained.contains(code)).collect();
        assert_eq!(unknown, [] as [&str; 0], "{} mentions codes that docs/errors.md does not explain", page.name);
        mentioned += codes(&page.text).len();
    }
    assert!(mentioned > explained.len(), "pages beside docs/errors.md mention codes");
}

#[test]
fn the_number_of_packages_is_that_of_the_lock_file() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let packages = lock.lines().filter(|line| *line == "[[package]]").count();
    let dependencies = pages().into_iter().find(|page| page.name == "docs/DEPENDENCIES.md").expect("docs/DEPENDENCIES.md");
    assert!(dependencies.text.contains(&format!("file holds {packages} packages,")), "{packages}");
}

/// The rows of the failure matrix: how many there are of each letter.
const ROWS: [(char, u32); 6] = [('P', 12), ('K', 23), ('D', 9), ('S', 15), ('T', 2), ('C', 6)];

/// What stands in the source files below a folder, one after the other.
fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *all += &std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let mut all = String::new();
    ["engine/src", "engine/protocol/src", "formats/src", "tests/src", "tests/tests"]
        .iter()
        .for_each(|folder| sources(&root().join(folder), &mut all));
    let (mut names, mut is_test) = (BTreeSet::new(), false);
    for line in all.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))
            && std::mem::take(&mut is_test)
        {
            names.extend(rest.split('(').next().map(str::to_owned));
        }
    }
    names
}

/// The rows of the failure matrix, and what shows each.
fn matrix() -> Vec<(String, String)> {
    let testing = pages().into_iter().find(|page| page.name == "docs/TESTING.md").expect("docs/TESTING.md");
    let (_, section) = testing.text.split_once("### The failure matrix, row by row\n").expect("the section of the matrix");
    let rows = section.lines().take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    cells.skip(2).map(|cells| (cells[1].clone(), cells[3].clone())).collect()
}

#[test]
fn the_failure_matrix_has_every_row_and_each_is_shown_by_a_test_that_there_is() {
    let (rows, tests, cells) = (matrix(), tests(), kafka_cells::names());
    let wanted: Vec<String> = ROWS.iter().flat_map(|(letter, count)| (1..=*count).map(move |n| format!("{letter}{n}"))).collect();
    assert_eq!(rows.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>(), wanted);
    let points: BTreeSet<&str> = catchment::crash::Point::ALL.iter().map(|point| point.name()).collect();
    let is_known = |name: &str| tests.contains(name) || points.contains(name) || cells.iter().any(|cell| cell.id.starts_with(name));
    for (row, shown) in &rows {
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        let unknown: Vec<_> = names.iter().filter(|name| name.is_empty() || !is_known(name)).collect();
        assert!(unknown.is_empty(), "{row}: there is no test or cell {unknown:?}");
        let reason = shown.split_once("not shown: ").map(|(_, reason)| reason);
        assert!(!names.is_empty() || reason.is_some_and(|reason| reason.len() > 10), "{row} is neither shown nor said not to be");
    }
}
