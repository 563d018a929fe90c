//! The actions of `catchment rule` on rules, and the call of the API that each is.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::super::words;
use super::args::{BodyArgs, EditArgs, NameArgs, ObjectArgs, PageArgs, SetArgs, load_test_name, name, page_query, query, table};
use super::call::Call;
use super::connection::ConnectionAction;
use crate::config::Accept;
use crate::error::Result;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Action {
    /// Rules and what they are doing: all of them, or a page
    List {
        /// Only rules whose names come behind this one: the last one of the page before
        #[arg(long, value_name = "NAME", value_parser = name)]
        after: Option<String>,
        /// How many rules, at most 1000; all of them if it is left out
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One rule
    Show(NameArgs),
    /// What a rule of a config file's [rule.NAME] would do; nothing is created
    Preview(BodyArgs),
    /// A new rule from a config file's [rule.NAME]
    Create(BodyArgs),
    /// A new version of a rule from a config file's [rule.NAME]
    Edit(EditArgs),
    /// A copy of a rule under another name
    Clone {
        #[command(flatten)]
        name: NameArgs,
        /// The new rule
        #[arg(value_name = "NEW", value_parser = name)]
        new: String,
        /// Config file whose [rule.NEW] gives keys anew
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Stop a rule until it is resumed
    Pause(NameArgs),
    /// Run a rule that is paused or has failed
    Resume {
        #[command(flatten)]
        name: NameArgs,
        /// Answer the question of a stopped lane; may be repeated
        #[arg(long, value_name = "WHAT", value_parser = words::<Accept>())]
        accept: Vec<Accept>,
    },
    /// Close the open windows now
    Seal(NameArgs),
    /// Read everything again that a rule has stored; exit 4 if anything is damaged
    Verify {
        #[command(flatten)]
        name: NameArgs,
        /// Compare every record with Kafka, too
        #[arg(long)]
        compare: bool,
        /// Begin it, and do not wait for its end
        #[arg(long)]
        no_wait: bool,
    },
    /// The last verification: how far it is, and what it found
    Verification(NameArgs),
    /// End a verification that waits or runs
    CancelVerification(NameArgs),
    /// Make an earlier version the current one again, as a new version
    Rollback {
        #[command(flatten)]
        name: NameArgs,
        /// The number of the earlier version
        #[arg(value_name = "N")]
        version: i64,
    },
    /// What a rule does: its settings in effect, its topics, what its objects are called
    Explain(NameArgs),
    /// Forget a rule; its objects stay
    Delete(NameArgs),
    /// Its versions
    Versions(NameArgs),
    /// Its last windows, newest first
    Windows {
        #[command(flatten)]
        name: NameArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Its gaps
    Gaps(NameArgs),
    /// How fast it was and how far behind, over the last half hour
    Series(NameArgs),
    /// Its log, oldest lines first
    Log {
        #[command(flatten)]
        name: NameArgs,
        /// Go on with what comes
        #[arg(short, long, conflicts_with_all = ["before", "limit"])]
        follow: bool,
        /// Only entries with a higher number
        #[arg(long, value_name = "ID", conflicts_with = "before")]
        after: Option<i64>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Objects and directories below its prefix
    Files {
        #[command(flatten)]
        name: NameArgs,
        /// A directory, with its trailing slash
        #[arg(value_name = "DIRECTORY")]
        directory: Option<String>,
        /// Where the page before says that the next one begins
        #[arg(long, value_name = "NEXT")]
        after: Option<String>,
    },
    /// An object's proof, and its first records
    File {
        #[command(flatten)]
        object: ObjectArgs,
        /// How many records, at most 50
        #[arg(short = 'n', long, value_name = "N")]
        rows: Option<u32>,
    },
    /// Copy an object's bytes into a new file
    Download {
        #[command(flatten)]
        object: ObjectArgs,
        /// The new file
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// What applying the rules of config files would change
    Diff(SetArgs),
    /// Make the rules what config files say
    Apply(SetArgs),
    /// Who changed what, newest first
    Audit {
        /// Only changes of this rule
        #[arg(value_name = "NAME", value_parser = name)]
        rule: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    #[command(flatten)]
    Connection(ConnectionAction),
    /// Workers that run rules of the service
    Workers,
    /// Load tests whose reports the service shows, newest first
    LoadTests,
    /// One load test
    LoadTest {
        /// Its name
        #[arg(value_name = "NAME", value_parser = load_test_name)]
        name: String,
        /// Copy the page that it has written into a new file instead
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Copy the service's state into a file of its state directory
    CopyState,
}

impl Action {
    /// The call that it is.
    pub(super) fn call(&self) -> Result<Call> {
        let at = |method, NameArgs { name }: &NameArgs, below: &str| Call::new(method, format!("/rules/{name}{below}"));
        Ok(match self {
            Self::List { after, limit, .. } => {
                Call::new("GET", query("/rules", &[("after", after.clone()), ("limit", limit.map(|n| n.to_string()))]))
            }
            Self::Show(name) => at("GET", name, ""),
            Self::Preview(body) => Call::new("POST", "/preview").with_body(body.named("rule")?),
            Self::Create(body) => Call::new("POST", "/rules").with_body(body.named("rule")?),
            Self::Edit(edit) => edit.call("/rules", "rule")?,
            Self::Clone { name, new, file } => {
                let mut over = file.as_ref().map_or_else(|| Ok(json!({})), |file| table(file, "rule", new))?;
                over["name"] = json!(new);
                at("POST", name, "/clone").with_body(over)
            }
            Self::Pause(name) => at("POST", name, "/pause"),
            Self::Resume { name, accept } => {
                let accept: Vec<String> = accept.iter().map(ToString::to_string).collect();
                at("POST", name, "/resume").with_body(json!({ "accept": accept }))
            }
            Self::Seal(name) => at("POST", name, "/seal"),
            Self::Verify { name, compare, .. } => at("POST", name, "/verify").with_body(json!({ "compare": compare })),
            Self::CancelVerification(name) => at("DELETE", name, "/verify"),
            Self::Verification(name) => at("GET", name, "/verify"),
            Self::Rollback { name, version } => at("POST", name, "/rollback").with_body(json!({ "version": version })),
            Self::Explain(name) => at("GET", name, "/explain"),
            Self::Delete(name) => at("DELETE", name, ""),
            Self::Versions(name) => at("GET", name, "/versions"),
            Self::Windows { name, page } => at("GET", name, &page_query("/windows", page, ("", None))),
            Self::Gaps(name) => at("GET", name, "/gaps"),
            Self::Series(name) => at("GET", name, "/series"),
            Self::Log { name, follow, after, page } => {
                let path = if *follow { "/log/follow" } else { "/log" };
                at("GET", name, &page_query(path, page, ("after", after.map(|id| id.to_string()))))
            }
            Self::Files { name, directory, after } => {
                at("GET", name, &query("/files", &[("directory", directory.clone()), ("after", after.clone())]))
            }
            Self::File { object, rows } => at("GET", &object.name, &object.query("/file", *rows)),
            Self::Download { object, .. } => at("GET", &object.name, &object.query("/file/content", None)),
            Self::Diff(set) => Call::new("POST", "/diff").with_body(set.body()?),
            Self::Apply(set) => Call::new("POST", "/apply").with_body(set.body()?),
            Self::Audit { rule, page } => Call::new("GET", page_query("/audit", page, ("rule", rule.clone()))),
            Self::Workers => Call::new("GET", "/workers"),
            Self::LoadTests => Call::new("GET", "/load-tests"),
            Self::LoadTest { name, report } => {
                Call::new("GET", format!("/load-tests/{name}{}", if report.is_some() { "/report" } else { "" }))
            }
            Self::CopyState => Call::new("POST", "/state/copy"),
            Self::Connection(action) => action.call()?,
        })
    }
}
