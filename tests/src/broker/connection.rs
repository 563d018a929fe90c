//! One connection: frames in, faults, answers out.
//!
//! Requests of a connection are handled one after another, as Kafka does: one that waits holds up those behind it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Shared;
use super::cluster::{Outcome, Pending};
use super::faults::Act;
use super::login::Session;
use super::refusals::{refusal, throttled};
use super::requests::{Asked, Received, Reply};
use super::served::Served;

/// The longest request that is read. Clients send small ones; whatever is longer is no request.
const FRAME_BYTES_MAX: u32 = 8 << 20;

/// What goes out after a request.
enum Out {
    /// This answer.
    Whole(Bytes),
    /// Nothing, and the connection ends.
    End,
    /// Nothing, for as long as the client keeps the connection.
    Nothing,
}

pub(super) struct Connection {
    stream: TcpStream,
    node: i32,
    shared: Arc<Shared>,
    session: Session,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, node: i32, shared: Arc<Shared>) -> Self {
        Self { stream, node, shared, session: Session::new() }
    }

    /// Serves until either side ends the connection.
    pub(super) async fn serve(mut self) {
        // An error here is the client's end of the connection, or a fault's.
        let _ = self.stream.set_nodelay(true);
        while let Ok(frame) = self.read_frame().await {
            match Received::decode(frame) {
                Ok(received) => {
                    if self.handle(received).await.is_err() {
                        return;
                    }
                }
                Err(why) => return self.shared.with(|cluster| cluster.complaints.push(format!("a request cannot be read: {why}"))),
            }
        }
    }

    async fn read_frame(&mut self) -> io::Result<Bytes> {
        let length = self.stream.read_u32().await?;
        if length > FRAME_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await?;
        Ok(frame.into())
    }

    async fn handle(&mut self, received: Received) -> io::Result<()> {
        let acts = self.shared.with_quietly(|cluster| cluster.meet_faults(&received.asked, self.node));
        for act in &acts {
            match act {
                Act::Delay(by) => tokio::time::sleep(*by).await,
                Act::Hold => self.await_release().await,
                _ => {}
            }
        }
        match self.answer(&received, &acts).await {
            Out::End => Err(io::ErrorKind::ConnectionAborted.into()),
            Out::Nothing => {
                // Until the client gives up; what it still sends is not read.
                std::future::pending::<()>().await;
                Ok(())
            }
            Out::Whole(bytes) => self.send(&bytes, &acts).await,
        }
    }

    /// Waits until the script lets go.
    async fn await_release(&mut self) {
        let mut changes = self.shared.changes();
        while !self.shared.with_quietly(|cluster| cluster.lets_go) {
            // It cannot fail: who sends is a part of what is shared.
            let _ = changes.changed().await;
        }
    }

    /// Lets the request take effect, if it does, and makes what goes out.
    async fn answer(&mut self, received: &Received, acts: &[Act]) -> Out {
        let Received { asked, version, .. } = received;
        let mut reply = None;
        if acts.iter().all(Act::has_effect) {
            let Some(done) = self.take_effect(asked, *version).await else { return Out::End };
            reply = Some(done);
        }
        for act in acts {
            match act {
                Act::Code(error) | Act::DoneBut(error) => reply = Some(refusal(asked, *version, *error)),
                Act::Cut | Act::DoneAndCut => return Out::End,
                Act::Silence | Act::DoneInSilence => return Out::Nothing,
                Act::Throttle(ms) => {
                    reply = reply.map(|r| throttled(r, *ms));
                    self.shared.with_quietly(|cluster| cluster.tally.note(Served::Throttled));
                    tokio::time::sleep(std::time::Duration::from_millis(u64::try_from(*ms).unwrap_or_default())).await;
                }
                Act::AnswerLate(by) => tokio::time::sleep(*by).await,
                Act::Delay(_) | Act::Hold | Act::CutInside(_) | Act::Drip(..) | Act::Happen(_) => {}
            }
        }
        match reply.map(|r| received.encode(&r)) {
            Some(Ok(bytes)) => Out::Whole(bytes),
            Some(Err(why)) => {
                self.shared.with(|cluster| cluster.complaints.push(format!("an answer cannot be written: {why}")));
                Out::End
            }
            None => Out::End,
        }
    }

    /// None: the client may not ask this, and the connection ends.
    async fn take_effect(&mut self, asked: &Asked, version: i16) -> Option<Reply> {
        if let Some(reply) = self.log_in(asked, version) {
            return Some(reply);
        }
        let admitted = self.shared.with_quietly(|cluster| self.session.admits(asked.key(), cluster.login.as_ref()));
        if !admitted {
            return None;
        }
        let mut pending = Pending::new(self.node);
        let mut changes = self.shared.changes();
        loop {
            changes.borrow_and_update();
            let outcome = self.shared.with_quietly(|cluster| cluster.answer(asked, version, &mut pending));
            match outcome {
                Outcome::Answer(reply) => {
                    if matches!(asked.key(), ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::LeaveGroup) {
                        self.shared.note_change();
                    }
                    return Some(*reply);
                }
                Outcome::Wait(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    // Woken or not, it is asked again.
                    let _ = tokio::time::timeout(left, changes.changed()).await;
                }
            }
        }
    }

    fn log_in(&mut self, asked: &Asked, version: i16) -> Option<Reply> {
        self.shared.with_quietly(|cluster| {
            let login = cluster.login.as_mut()?;
            let reply: Reply = match asked {
                Asked::SaslHandshake(request) => login.handshake(request).into(),
                Asked::SaslAuthenticate(request) => {
                    let reply = login.authenticate(request, version);
                    if reply.error_code == 0 {
                        self.session.begin();
                    }
                    reply.into()
                }
                _ => return None,
            };
            cluster.note(asked, &reply, self.node);
            Some(reply)
        })
    }

    async fn send(&mut self, bytes: &[u8], acts: &[Act]) -> io::Result<()> {
        for act in acts {
            match act {
                Act::CutInside(at) => {
                    self.stream.write_all(&bytes[..(*at).min(bytes.len() - 1)]).await?;
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Act::Drip(piece, pause) => {
                    for piece in bytes.chunks(*piece) {
                        self.stream.write_all(piece).await?;
                        if !pause.is_zero() {
                            tokio::time::sleep(*pause).await;
                        }
                    }
                    return Ok(());
                }
                _ => {}
            }
        }
        self.stream.write_all(bytes).await
    }
}
