//! Where to look: a store opened wide enough to find the control objects above a prefix, for reading only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::store::ObjectStore;
use crate::store::file::FileStore;
use crate::store::open::OpenOptions;
use crate::store::url::StoreUrl;

/// The directory of control objects.
pub const CONTROL: &str = "_catchment/";

/// A prefix of a store. Keys are relative to the store, not to the prefix.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store: of a bucket the whole, of a directory the nearest one above that holds control objects.
    pub store: Arc<dyn ObjectStore>,
    /// The prefix to look at: empty, or ending with a slash.
    pub prefix: String,
}

impl Place {
    /// A prefix of a store that is open already.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: impl Into<String>) -> Self {
        Self { store, prefix: prefix.into() }
    }

    /// Opens a URL for reading. Creates nothing. What waits for a disk does so on a thread that may.
    ///
    /// # Errors
    /// If the address is wrong, or a directory does not exist.
    pub async fn open(url: &str, options: &OpenOptions) -> Result<Self> {
        match StoreUrl::parse(url)? {
            StoreUrl::File(path) => blocking(move || Self::open_directory(&path)).await,
            #[cfg(feature = "s3")]
            StoreUrl::Bucket(mut bucket) => {
                let prefix = std::mem::take(&mut bucket.prefix);
                Ok(Self::new(Arc::new(crate::store::s3::S3Store::open(&bucket, options).await?), prefix))
            }
            #[cfg(not(feature = "s3"))]
            StoreUrl::Bucket(_) => Ok(Self::new(crate::store::open::open(url, options).await?, "")),
        }
    }

    fn open_directory(path: &Path) -> Result<Self> {
        let absent = |e: std::io::Error| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Invalid };
            Error::new(codes::NOTHING_THERE, kind, "the directory cannot be read")
                .with("directory", path.display())
                .because(e)
                .help("check the path and that this user may read it")
        };
        let path = path.canonicalize().map_err(absent)?;
        let root: PathBuf = path.ancestors().find(|a| a.join(CONTROL).is_dir()).unwrap_or(&path).to_owned();
        let below = path.strip_prefix(&root).expect("an ancestor is a prefix");
        let prefix = match below.to_str() {
            Some("") => String::new(),
            Some(below) => format!("{below}/"),
            None => return Err(absent(std::io::Error::new(std::io::ErrorKind::InvalidInput, "its path is not UTF-8"))),
        };
        Ok(Self::new(Arc::new(FileStore::existing(&root).map_err(absent)?), prefix))
    }

    /// The place as a URL for messages.
    pub fn url(&self) -> String {
        format!("{}{}", self.store.url(), self.prefix)
    }

    /// A key as a URL for messages.
    pub fn url_of(&self, key: &str) -> String {
        format!("{}{key}", self.store.url())
    }

    /// The prefixes above this one, from the store's own down; not this one itself.
    pub fn prefixes_above(&self) -> Vec<&str> {
        let slashes = self.prefix.match_indices('/').map(|(at, _)| &self.prefix[..=at]);
        std::iter::once("").chain(slashes).filter(|above| *above != self.prefix).collect()
    }
}
