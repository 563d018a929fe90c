//! The objects of a rule: browsed by directory, looked into, and how to query them.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::context::Page;
use super::elsewhere::{Elsewhere, deeds, quoted};
use super::refusal::{Refusal, shown};
use super::show;
use crate::error::Error;
use crate::https::escaped;
use crate::service::api::{OfPath, OfQuery, Service, files};
use crate::store::url::{StoreUrl, below};

/// Records that are shown of an object.
const ROWS: usize = 20;

/// The directory of control objects, which hold no records.
const CONTROL: &str = "_catchment/";

#[derive(Template)]
#[template(path = "console/files.html")]
struct FilesPage {
    p: Page,
    name: String,
    tab: &'static str,
    place: String,
    crumbs: Vec<(String, String)>,
    directories: Vec<(String, String)>,
    objects: Vec<(String, String, String)>,
    next: Option<String>,
    elsewhere: Elsewhere,
}

/// Which page of which directory.
#[derive(Debug, Deserialize)]
pub(super) struct Where {
    directory: Option<String>,
    after: Option<String>,
}

/// The directories above a path, each with the path to it.
fn crumbs(directory: &str) -> Vec<(String, String)> {
    let mut path = String::new();
    let pieces = directory.split('/').filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| {
            path += &format!("{piece}/");
            (escaped(&path), piece.to_owned())
        })
        .collect()
}

/// The last piece of a path.
fn piece(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned()
}

/// Lists a directory.
pub(super) async fn list(
    State(service): State<Service>,
    p: Page,
    OfPath(name): OfPath<String>,
    OfQuery(query): OfQuery<Where>,
) -> Result<Response, Refusal> {
    let place = files::place(&service, &name).await?;
    let directory = files::checked(&service, &place, query.directory.as_deref().unwrap_or_default())?;
    let prefix = format!("{}{directory}", place.prefix);
    let page = place.store.list(&prefix, true, query.after.as_deref()).await.map_err(Error::from)?;
    let own = |key: &str| key.strip_prefix(&place.prefix).unwrap_or(key).to_owned();
    let next = page.next.map(|next| format!("/console/rules/{name}/files?directory={}&after={}", escaped(directory), escaped(&next)));
    Ok(shown(&FilesPage {
        tab: "files",
        place: place.url_of(&prefix),
        crumbs: crumbs(directory),
        directories: page.directories.iter().map(|d| own(d)).filter(|d| d != CONTROL).map(|d| (escaped(&d), piece(&d))).collect(),
        objects: page.objects.iter().map(|o| (escaped(&own(&o.key)), piece(&o.key), show::size(o.size as f64))).collect(),
        next,
        elsewhere: deeds::files(&p, &name, directory, query.after.as_deref()),
        name,
        p,
    }))
}

#[derive(Template)]
#[template(path = "console/file.html")]
struct FilePage {
    p: Page,
    name: String,
    tab: &'static str,
    piece: String,
    path: String,
    directory: String,
    url: String,
    size: String,
    show_values: bool,
    proof: Vec<(String, String)>,
    rows: Vec<String>,
    queries: Vec<(&'static str, String)>,
    elsewhere: Elsewhere,
}

/// Shows what an object says of itself and, if values may be shown, its first records.
pub(super) async fn file(
    State(service): State<Service>,
    p: Page,
    OfPath(name): OfPath<String>,
    OfQuery(query): OfQuery<files::Which>,
) -> Result<Response, Refusal> {
    let plan = service.supervisor.plan_of_rule(&name).await?;
    let place = files::place(&service, &name).await?;
    let key = files::checked(&service, &place, &query.key)?;
    let found = service.inspector.look_into(&place, key, if service.show_values { ROWS } else { 0 }).await?;
    let proof = found.proof.as_ref().and_then(|proof| serde_json::to_value(proof).ok());
    let directory = key.rsplit_once('/').map(|(directory, _)| format!("{directory}/")).unwrap_or_default();
    Ok(shown(&FilePage {
        tab: "files",
        piece: piece(key),
        path: escaped(key),
        directory: escaped(&directory),
        size: show::size(found.size as f64),
        show_values: service.show_values,
        proof: proof.map(|proof| flat("", &proof)).unwrap_or_default(),
        rows: found.lines,
        queries: queries(&plan.to.store.url, &plan.to.prefix, key),
        elsewhere: deeds::file(&p, &name, key, service.show_values),
        url: found.url,
        name,
        p,
    }))
}

/// A value's parts, each with the path to it.
fn flat(path: &str, value: &Value) -> Vec<(String, String)> {
    let Value::Object(fields) = value else {
        return vec![(path.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))];
    };
    let joined = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    fields.iter().flat_map(|(key, value)| flat(&joined(key), value)).collect()
}

/// What reads an object elsewhere: the address as such programs take it, and a query of DuckDB for a Parquet file and its topic.
fn queries(store: &str, prefix: &str, key: &str) -> Vec<(&'static str, String)> {
    let address = below(store, &format!("{prefix}{}{key}", if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" }));
    let place = match StoreUrl::parse(store) {
        Ok(StoreUrl::Bucket(bucket)) => format!("s3://{}/{}", bucket.bucket, address_path(&address)),
        _ => address_path(&address),
    };
    let mut queries = vec![("catchment", format!("catchment show {0}\ncatchment verify {0}", quoted(&address)))];
    if key.ends_with(".parquet") {
        let all = place.rsplit_once('/').map_or(place.clone(), |(directory, _)| format!("{directory}/*.parquet"));
        let select = |from: &str| format!("SELECT * FROM read_parquet('{}') ORDER BY kafka_offset LIMIT 10;", from.replace('\'', "''"));
        // Files are read without an extension.
        let load = if place.starts_with("s3://") { "INSTALL httpfs; LOAD httpfs;\n" } else { "" };
        queries.push(("DuckDB", format!("{load}{}\n{}", select(&place), select(&all))));
    }
    queries
}

/// The path of an address, without its options: below the bucket, or of the directory.
fn address_path(address: &str) -> String {
    let plain = address.split('?').next().unwrap_or(address);
    let path = plain.split_once("://").map_or(plain, |(_, rest)| rest);
    if plain.starts_with("file://") { path.to_owned() } else { path.split_once('/').map_or("", |(_, path)| path).to_owned() }
}

/// An object's bytes.
pub(super) async fn content(service: State<Service>, name: OfPath<String>, which: OfQuery<files::Which>) -> Result<Response, Refusal> {
    Ok(files::download(service, name, which).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_the_object_as_its_reader_does() {
        let of = |store: &str, prefix: &str| queries(store, prefix, "t/dt=1/a+0+1.parquet");
        let bucket = of("s3://lake/kafka/?region=r&endpoint=http://h:1", "p");
        assert!(bucket[1].1.contains("read_parquet('s3://lake/kafka/p/t/dt=1/a+0+1.parquet')"), "{bucket:?}");
        assert!(bucket[1].1.contains("read_parquet('s3://lake/kafka/p/t/dt=1/*.parquet')"), "{bucket:?}");
        assert!(of("file:///x/", "")[1].1.contains("read_parquet('/x/t/dt=1/a+0+1.parquet')"));
        assert_eq!(queries("file:///x/", "", "a.bin").len(), 1);
    }

    #[test]
    fn a_directory_is_found_by_its_pieces() {
        assert_eq!(crumbs("a/b=1/"), [("a%2F".to_owned(), "a".to_owned()), ("a%2Fb%3D1%2F".to_owned(), "b=1".to_owned())]);
        assert!(crumbs("").is_empty());
        assert_eq!(
            flat("", &serde_json::json!({ "a": { "b": 1 }, "c": "x" })),
            [("a.b".to_owned(), "1".to_owned()), ("c".to_owned(), "x".to_owned())]
        );
    }
}
