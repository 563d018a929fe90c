//! What the server does in a cell. A trouble that makes no sense for an operation is replaced by another one, and what the cell says of
//! itself then begins with `instead`.

use std::time::Duration;

use super::cell::{Cell, Moment, Service, Trouble};
use crate::gate::Gate;
use crate::s3::{Answer, Fault, Op};

/// How often credentials are refused before they work again.
const REFUSALS: u64 = 3;

/// Windows whose publishing may meet a trouble, once each where it takes effect all the same: the object is then found, and not sent again.
const PUBLISHED: u64 = 2;

/// More failures than one call of the engine takes before it hands the decision up.
const OUTAGE: u64 = 12;

/// How much later than usual a slow request or answer arrives in all: the client has given up by then, and what is slow still comes.
const SLOWNESS: Duration = Duration::from_millis(900);

/// How much later a slow CreateMultipartUpload takes effect: within the client's patience. An upload that is opened when its process has come to its end
/// is nobody's to see; one that is opened behind its repetition is what `late` has.
const SLOW_CREATE: Duration = Duration::from_millis(60);

/// When delayed effects and answers come.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates {
    /// Opened when the request after the last one that went wrong was answered.
    pub(super) retried: Gate,
    /// Opened when the backup is through.
    pub(super) over: Gate,
}

/// What goes wrong, how often, and how to say it.
#[derive(Clone, Debug)]
pub(super) struct Harm {
    pub(super) fault: Fault,
    /// To so many requests it happens, and a cell must have sent them all.
    pub(super) times: u64,
    /// How long the service takes for the body of a request.
    pub(super) body_takes: Option<Duration>,
    /// Whether the client must be seen to give the request up.
    pub(super) is_felt: bool,
    pub(super) what: String,
    /// Whether it stands for a trouble that makes no sense for the operation.
    pub(super) is_replaced: bool,
}

impl Harm {
    fn once(fault: Fault, what: impl Into<String>) -> Self {
        Self { fault, times: 1, body_takes: None, is_felt: false, what: what.into(), is_replaced: false }
    }

    /// The client gives up before it is over.
    fn outlasts_patience(self) -> Self {
        Self { is_felt: true, ..self }
    }

    fn times(self, times: u64) -> Self {
        Self { times, what: format!("{}, {times} times", self.what), ..self }
    }

    fn instead(self) -> Self {
        Self { what: format!("instead: {}", self.what), is_replaced: true, ..self }
    }

    /// What a cell means.
    pub(super) fn of(cell: &Cell, gates: &Gates) -> Self {
        let maker = Maker { cell, effect: !cell.writes() || cell.moment == Moment::After, gates };
        maker.make()
    }
}

struct Maker<'a> {
    cell: &'a Cell,
    /// Whether the operation takes effect. A reading does: its usual answer is what the fault changes.
    effect: bool,
    gates: &'a Gates,
}

impl Maker<'_> {
    fn make(&self) -> Harm {
        match self.cell.trouble {
            Trouble::InternalError => self.error(500, "InternalError"),
            Trouble::SlowDown => self.error(503, "SlowDown"),
            Trouble::TooManyRequests => self.error(429, "TooManyRequests"),
            Trouble::ProxyPage => self.page(520),
            Trouble::Denied => self.refused(403, "AccessDenied"),
            Trouble::ClockSkewed => self.refused(403, "RequestTimeTooSkewed"),
            Trouble::TokenExpired => self.refused(400, "ExpiredToken"),
            Trouble::Reset => Harm::once(Fault::reset(self.effect), "the connection is reset"),
            Trouble::Hang => self.hang(),
            Trouble::Slow => self.slow(),
            Trouble::ErrorIn200 => self.error_in_200(),
            Trouble::Garbage => Harm::once(Fault::answered(self.effect, Answer::Garbage), "200 with a text that means nothing"),
            Trouble::CutAnswer => Harm::once(Fault::answered(self.effect, Answer::Cut), "the answer breaks off"),
            Trouble::WrongSum => self.wrong_sum(),
            Trouble::NotFound => self.not_found(),
            Trouble::Conflict => self.conflict(),
            Trouble::Late => self.late(),
        }
    }

    fn error(&self, status: u16, code: &str) -> Harm {
        Harm::once(Fault::answered(self.effect, Answer::Error(status, code.to_owned())), format!("{status} {code}"))
    }

    fn refused(&self, status: u16, code: &str) -> Harm {
        let refused = self.error(status, code);
        match (self.cell.op, self.cell.moment) {
            (Op::PutObject | Op::CompleteMultipartUpload, Moment::After) => refused.times(PUBLISHED),
            // The upload is gone, and is not listed again.
            (Op::AbortMultipartUpload, Moment::After) => refused,
            _ => refused.times(REFUSALS),
        }
    }

    fn page(&self, status: u16) -> Harm {
        Harm::once(Fault::answered(self.effect, Answer::Page(status)), format!("{status} with a proxy's page"))
    }

    fn answer(&self, answer: Answer, what: &str) -> Harm {
        Harm::once(Fault::answered(self.effect, answer), what)
    }

    fn hang(&self) -> Harm {
        let fault = Fault { held: Some(self.gates.over.clone()), ..Fault::answered(self.effect, Answer::Reset) };
        Harm::once(fault, "no answer before the client gives up").outlasts_patience()
    }

    fn slow(&self) -> Harm {
        let usual = Fault::default();
        match (self.cell.writes(), self.cell.moment, self.cell.op) {
            (true, Moment::Before, Op::PutObject | Op::UploadPart) => {
                let slow = Harm::once(usual, "the body is taken so slowly that the client gives up");
                Harm { body_takes: Some(SLOWNESS), ..slow }.outlasts_patience()
            }
            (true, Moment::Before, Op::CreateMultipartUpload) => {
                Harm::once(Fault { before: SLOW_CREATE, ..usual }, "the effect comes late, the answer with it, and the client waits for it")
            }
            (true, Moment::Before, _) => {
                Harm::once(Fault { before: SLOWNESS, ..usual }, "the effect comes when the client has given up").outlasts_patience()
            }
            _ => Harm::once(
                Fault { pause: Some(SLOWNESS / 6), ..usual },
                "the answer comes in pieces, the last ones when the client has given up",
            )
            .outlasts_patience(),
        }
    }

    fn error_in_200(&self) -> Harm {
        match self.cell.op {
            Op::HeadObject => self.error(504, "GatewayTimeout").instead(),
            _ => self.answer(Answer::LateError("InternalError".to_owned()), "200 with InternalError in its body"),
        }
    }

    /// A sum that is wrong: as the service's complaint before the effect, as its answer after it.
    fn wrong_sum(&self) -> Harm {
        let wrong = || match self.cell.service {
            Service::Cos => self.answer(Answer::WrongCrc, "another CRC-64 than that of the bytes"),
            Service::Aws | Service::Minio | Service::Unguarded => self.answer(Answer::WrongEtag, "another ETag than the true one"),
        };
        let damaged = || self.answer(Answer::Damaged, "the answer's body is damaged");
        let no_id = "<InitiateMultipartUploadResult><UploadId></UploadId></InitiateMultipartUploadResult>";
        match (self.cell.op, self.cell.moment) {
            (Op::PutObject | Op::UploadPart, Moment::Before) => self.error(400, "BadDigest"),
            (Op::PutObject | Op::UploadPart | Op::DeleteObject, Moment::After) | (Op::DeleteObject, _) => wrong(),
            (Op::CompleteMultipartUpload, Moment::Before) => self.error(400, "InvalidPart"),
            (Op::CompleteMultipartUpload, Moment::After) => self.answer(Answer::WrongEtag, "another ETag than the true one"),
            (Op::CreateMultipartUpload, _) => self.answer(Answer::Text(no_id.to_owned()), "200 without an upload's id").instead(),
            (Op::AbortMultipartUpload, Moment::Before) => self.answer(Answer::Usual, "said to be done, and not done").instead(),
            (Op::AbortMultipartUpload, Moment::After) => self.page(200).instead(),
            // The answer is 404 and has no sum.
            (Op::HeadObject, Moment::Before) => self.page(502).instead(),
            (Op::HeadObject, Moment::After) => wrong(),
            (Op::GetObject | Op::ListMultipartUploads, _) | (Op::ListParts, Moment::After) => damaged(),
            (Op::ListParts | Op::ListObjects, _) => self.answer(Answer::WrongEtag, "other ETags than the true ones"),
        }
    }

    /// 404, unless that would be the truth.
    fn not_found(&self) -> Harm {
        let code = match (self.cell.op, self.cell.moment) {
            (Op::HeadObject | Op::GetObject, Moment::Before) | (Op::ListParts, Moment::After) => {
                return self.error(408, "RequestTimeout").instead();
            }
            (Op::UploadPart | Op::CompleteMultipartUpload | Op::AbortMultipartUpload | Op::ListParts, _) => "NoSuchUpload",
            (Op::HeadObject | Op::GetObject, Moment::After) => "NoSuchKey",
            _ => "NoSuchBucket",
        };
        self.error(404, code)
    }

    /// A conflict, or an object that is said to exist; readings have neither.
    fn conflict(&self) -> Harm {
        match (self.cell.op, self.cell.service) {
            (Op::PutObject | Op::CompleteMultipartUpload | Op::CreateMultipartUpload, Service::Cos) => self.error(409, "FileAlreadyExists"),
            (Op::PutObject | Op::CompleteMultipartUpload, Service::Minio) => self.error(412, "PreconditionFailed"),
            (Op::PutObject | Op::CompleteMultipartUpload, Service::Aws) => self.error(409, "ConditionalRequestConflict"),
            _ if self.cell.writes() => self.error(409, "OperationAborted"),
            (Op::HeadObject | Op::GetObject, _) => self.page(502).times(2).instead(),
            _ => self.answer(Answer::BrokenPage, "a page that says that there is more, and not where").instead(),
        }
    }

    /// Delivered late or twice; a reading meets an outage that is longer than one call's patience.
    fn late(&self) -> Harm {
        if !self.cell.writes() {
            return self.error(503, "ServiceUnavailable").times(OUTAGE).instead();
        }
        let fault = Fault { again: Some(self.gates.retried.clone()), ..Fault::reset(self.effect) };
        let what = match self.cell.moment {
            Moment::Before => "the connection is reset; the effect comes after the repetition",
            Moment::After => "the connection is reset; the effect comes at once, and once more later",
        };
        Harm::once(fault, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3_cells::play::PATIENCE;

    #[test]
    fn what_is_slow_passes_the_patience_of_a_request_and_is_to_be_felt() {
        assert!(SLOWNESS >= 2 * PATIENCE && 2 * SLOW_CREATE < PATIENCE);
        let slow: Vec<(Cell, Harm)> = Cell::all()
            .into_iter()
            .filter(|cell| cell.trouble == Trouble::Slow)
            .map(|cell| (cell, Harm::of(&cell, &Gates::default())))
            .collect();
        for (cell, Harm { fault, body_takes, is_felt, .. }) in &slow {
            let in_all = fault.before + fault.pause.unwrap_or_default() * 6 + body_takes.unwrap_or_default();
            assert_eq!(in_all > PATIENCE, *is_felt, "{cell}");
        }
        let unfelt = slow.iter().filter(|(_, harm)| !harm.is_felt);
        assert!(unfelt.clone().count() == Service::ALL.len() && unfelt.into_iter().all(|(cell, _)| cell.op == Op::CreateMultipartUpload));
    }
}
