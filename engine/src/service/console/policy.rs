//! The least that a rule needs of its store, as policies of the two clouds: to be given to whoever grants it.

use serde_json::{Value, json};

use crate::store::url::{BucketUrl, Dialect, StoreUrl};

/// Actions on objects: in the words of AWS, and of COS.
const ON_OBJECTS: [(&str, &str); 4] = [
    ("s3:PutObject", "name/cos:PutObject"),
    ("s3:GetObject", "name/cos:GetObject"),
    ("s3:AbortMultipartUpload", "name/cos:AbortMultipartUpload"),
    ("s3:ListMultipartUploadParts", "name/cos:ListParts"),
];

/// What COS names apart and AWS has in PutObject and GetObject.
const ON_OBJECTS_OF_COS: [&str; 4] =
    ["name/cos:HeadObject", "name/cos:InitiateMultipartUpload", "name/cos:UploadPart", "name/cos:CompleteMultipartUpload"];

/// Actions on the bucket.
const ON_BUCKET: [(&str, &str); 2] =
    [("s3:ListBucket", "name/cos:GetBucket"), ("s3:ListBucketMultipartUploads", "name/cos:ListMultipartUploads")];

/// Policies for a rule that writes below `prefix` of the store at `url`, with the names of whose they are. None for a directory.
pub(super) fn policies(url: &str, prefix: &str) -> Vec<(&'static str, String)> {
    let Ok(StoreUrl::Bucket(bucket)) = StoreUrl::parse(url) else { return Vec::new() };
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    let below = format!("{}{prefix}{slash}", bucket.prefix);
    match bucket.dialect {
        Dialect::S3 => vec![("AWS", pretty(&of_aws(&bucket, &below)))],
        // COS takes the policies of its own cloud alone, but a gateway before it may speak the other's.
        Dialect::Cos => vec![("COS", pretty(&of_cos(&bucket, &below))), ("AWS", pretty(&of_aws(&bucket, &below)))],
    }
}

fn of_aws(bucket: &BucketUrl, below: &str) -> Value {
    let name = &bucket.bucket;
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ON_OBJECTS.map(|(aws, _)| aws),
                "Resource": format!("arn:aws:s3:::{name}/{below}*"),
            },
            {
                "Effect": "Allow",
                "Action": ON_BUCKET.map(|(aws, _)| aws),
                "Resource": format!("arn:aws:s3:::{name}"),
                "Condition": { "StringLike": { "s3:prefix": format!("{below}*") } },
            },
        ],
    })
}

/// A COS bucket's name ends with the account's app id.
fn of_cos(bucket: &BucketUrl, below: &str) -> Value {
    let app_id = bucket.bucket.rsplit_once('-').map_or("APPID", |(_, id)| id);
    let region = bucket.region.as_deref().unwrap_or("*");
    let resource = |path: &str| format!("qcs::cos:{region}:uid/{app_id}:{}/{path}", bucket.bucket);
    let on_objects: Vec<&str> = ON_OBJECTS.iter().map(|(_, cos)| *cos).chain(ON_OBJECTS_OF_COS).collect();
    json!({
        "version": "2.0",
        "statement": [
            { "effect": "allow", "action": on_objects, "resource": [resource(&format!("{below}*"))] },
            { "effect": "allow", "action": ON_BUCKET.map(|(_, cos)| cos), "resource": [resource(&format!("{below}*"))] },
        ],
    })
}

fn pretty(policy: &Value) -> String {
    serde_json::to_string_pretty(policy).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_grants_what_lies_below_the_prefix_and_no_deletion() {
        let (name, aws) = &policies("s3://lake/kafka/?region=eu-1", "orders")[0];
        assert_eq!(*name, "AWS");
        assert!(aws.contains("arn:aws:s3:::lake/kafka/orders/*") && !aws.contains("Delete"), "{aws}");
        let both = policies("cos://lake-1250000000/?region=ap-guangzhou", "");
        assert_eq!(both.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["COS", "AWS"]);
        assert!(both[0].1.contains("qcs::cos:ap-guangzhou:uid/1250000000:lake-1250000000/*"), "{}", both[0].1);
        assert!(policies("file:///x/", "").is_empty());
    }
}
