//! Style sheet, scripts and icon: in the program, under names that change with their content, so that browsers keep them for good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

/// One file.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $content_type:literal) => {
        Asset { name: $name, content_type: $content_type, bytes: include_bytes!(concat!("../../../assets/", $name)) }
    };
}

/// All files. What is not our own is named in `assets/NOTICE.md`.
const ASSETS: [Asset; 6] = [
    asset!("console.css", "text/css; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("charts.js", "text/javascript; charset=utf-8"),
    asset!("tail.js", "text/javascript; charset=utf-8"),
    asset!("uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    asset!("uPlot.min.css", "text/css; charset=utf-8"),
];

/// The names under which they are served, in the same order.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| ASSETS.iter().map(hashed_name).collect());

fn hashed_name(asset: &Asset) -> String {
    let hash = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, asset.bytes);
    let (stem, extension) = asset.name.rsplit_once('.').unwrap_or((asset.name, ""));
    format!("{stem}-{hash:016x}.{extension}")
}

/// The path of a file.
pub(super) fn path_of(name: &str) -> String {
    let hashed = ASSETS.iter().zip(&*NAMES).find_map(|(asset, hashed)| (asset.name == name).then_some(hashed.as_str()));
    format!("/console/assets/{}", hashed.unwrap_or(name))
}

/// A file by its name with its hash.
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    match ASSETS.iter().zip(&*NAMES).find(|(_, hashed)| **hashed == name) {
        Some((asset, _)) => {
            ([(CONTENT_TYPE, asset.content_type), (CACHE_CONTROL, "public, max-age=31536000, immutable")], asset.bytes).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_asset_is_served_under_the_name_of_its_content_alone() {
        for asset in &ASSETS {
            let path = path_of(asset.name);
            let name = path.rsplit('/').next().unwrap().to_owned();
            assert_ne!(name, asset.name);
            let answer = serve(Path(name)).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert!(answer.headers()[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
            assert_eq!(serve(Path(asset.name.to_owned())).await.status(), StatusCode::NOT_FOUND);
        }
    }

    #[test]
    fn every_page_with_charts_stays_below_its_weight() {
        assert!(ASSETS.iter().map(|asset| asset.bytes.len()).sum::<usize>() < 100 << 10);
    }
}
