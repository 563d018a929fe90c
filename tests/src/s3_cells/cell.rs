//! The cells, by id: `PutObject/reset/after/cos` is a PutObject of a server with COS's manners that takes effect and whose connection is
//! then reset.

use std::fmt;

use catchment::store::GuardClass;

use crate::s3::{Op, Personality};

/// Every operation that the engine sends.
pub const OPERATIONS: [Op; 10] = [
    Op::PutObject,
    Op::CreateMultipartUpload,
    Op::UploadPart,
    Op::CompleteMultipartUpload,
    Op::AbortMultipartUpload,
    Op::HeadObject,
    Op::GetObject,
    Op::ListParts,
    Op::ListObjects,
    Op::ListMultipartUploads,
];

/// Whose manners a server has, and what its create-only guard is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// AWS S3: an atomic guard.
    Aws,
    /// Tencent COS: a guard that checks first and writes then.
    Cos,
    /// MinIO: an atomic guard.
    Minio,
    /// Manners as of AWS, and the guard is ignored.
    Unguarded,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Aws, Self::Cos, Self::Minio, Self::Unguarded];

    /// Its name in ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Cos => "cos",
            Self::Minio => "minio",
            Self::Unguarded => "unguarded",
        }
    }

    /// How the server is to behave.
    pub fn personality(self) -> Personality {
        match self {
            Self::Aws | Self::Unguarded => Personality::Aws,
            Self::Cos => Personality::Cos,
            Self::Minio => Personality::Minio,
        }
    }

    /// The class of its guard, for each operation.
    pub fn class(self) -> GuardClass {
        match self {
            Self::Aws | Self::Minio => GuardClass::A,
            Self::Cos => GuardClass::B,
            Self::Unguarded => GuardClass::C,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// 500.
    InternalError,
    /// 503 of a service that is throttled.
    SlowDown,
    /// 429.
    TooManyRequests,
    /// The page of a proxy, with a status that S3 does not have.
    ProxyPage,
    /// 403, as long as credentials are refused.
    Denied,
    /// The clock is wrong, for as long.
    ClockSkewed,
    /// The credentials have expired, for as long.
    TokenExpired,
    /// The connection is reset.
    Reset,
    /// No answer before the client gives up.
    Hang,
    /// The request or the answer is slow, but arrives.
    Slow,
    /// 200 with an error in the body.
    ErrorIn200,
    /// 200 with a body that means nothing.
    Garbage,
    /// The answer breaks off.
    CutAnswer,
    /// A checksum or an ETag that is not the true one.
    WrongSum,
    /// 404 of something that is there.
    NotFound,
    /// 409, or 412 of an object that is said to exist.
    Conflict,
    /// The request takes effect late, or once more.
    Late,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::InternalError,
        Self::SlowDown,
        Self::TooManyRequests,
        Self::ProxyPage,
        Self::Denied,
        Self::ClockSkewed,
        Self::TokenExpired,
        Self::Reset,
        Self::Hang,
        Self::Slow,
        Self::ErrorIn200,
        Self::Garbage,
        Self::CutAnswer,
        Self::WrongSum,
        Self::NotFound,
        Self::Conflict,
        Self::Late,
    ];

    /// Its name in ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InternalError => "internal-error",
            Self::SlowDown => "slow-down",
            Self::TooManyRequests => "too-many-requests",
            Self::ProxyPage => "proxy-page",
            Self::Denied => "denied",
            Self::ClockSkewed => "clock-skewed",
            Self::TokenExpired => "token-expired",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::ErrorIn200 => "error-in-200",
            Self::Garbage => "garbage",
            Self::CutAnswer => "cut-answer",
            Self::WrongSum => "wrong-sum",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Late => "late",
        }
    }
}

/// When it goes wrong: of an operation that writes, before or after it took effect; of one that reads, before or after that took effect
/// which it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Before.
    Before,
    /// After.
    After,
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The operation that goes wrong.
    pub op: Op,
    /// What goes wrong.
    pub trouble: Trouble,
    /// When.
    pub moment: Moment,
    /// Whose manners the server has.
    pub service: Service,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Before => "before",
            Moment::After => "after",
        };
        write!(f, "{:?}/{}/{moment}/{}", self.op, self.trouble.as_str(), self.service.as_str())
    }
}

impl Cell {
    /// All cells, in the order of their parts.
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for op in OPERATIONS {
            for trouble in Trouble::ALL {
                for moment in [Moment::Before, Moment::After] {
                    cells.extend(Service::ALL.map(|service| Self { op, trouble, moment, service }));
                }
            }
        }
        cells
    }

    /// Whether the operation changes what the service holds.
    pub fn writes(&self) -> bool {
        use Op::{AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, PutObject, UploadPart};
        matches!(self.op, PutObject | CreateMultipartUpload | UploadPart | CompleteMultipartUpload | AbortMultipartUpload)
    }

    /// Whether a process may stop in it and tell the operator: the service has said that the bucket does not exist, or shows under the
    /// lane's key what nobody can tell from somebody else's object.
    pub fn may_stop(&self) -> bool {
        let bucket_is_gone =
            self.trouble == Trouble::NotFound && matches!(self.op, Op::PutObject | Op::CreateMultipartUpload | Op::ListObjects);
        let proof_is_damaged = self.trouble == Trouble::WrongSum && self.op == Op::GetObject && self.moment == Moment::After;
        bucket_is_gone || proof_is_damaged
    }
}
