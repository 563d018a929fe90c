//! K20: logins that are refused, end and change, and rights that are taken.

use std::time::Duration;

use super::network::in_steps;
use crate::broker::cluster::code;
use crate::broker::faults::{Act, Fault, When};
use crate::broker::login::Login;
use crate::broker::served::Served;
use crate::kafka_cells::Cells;
use crate::kafka_cells::bench::TOPIC;

pub(super) fn list(cells: &mut Cells) {
    logins(cells);
}

const LOGIN: &str = "sasl = { mechanism = \"PLAIN\", username = \"backup\", password = \"right\" }";

fn logins(cells: &mut Cells) {
    cells.add("K20", "k20.wrong-then-right", "a wrong password: C0211 before anything is done; the right one works", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.script(|c| c.login = Some(Login::plain("backup", "another")));
            bench.settings.kafka = LOGIN.to_owned();
            bench.shows(Served::LoginRefused);
            bench.expect_stop(211).await?;
            bench.shows(Served::LoginAccepted);
            bench.script(|c| c.login = Some(Login::plain("backup", "right")));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K20", "k20.mechanism", "the listener does not offer the mechanism: C0211; offered, it works", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.script(|c| c.login = Some(Login { mechanisms: vec!["GSSAPI".to_owned()], ..Login::plain("backup", "right") }));
            bench.settings.kafka = LOGIN.to_owned();
            bench.shows(Served::MechanismRefused);
            bench.expect_stop(211).await?;
            bench.script(|c| c.login = Some(Login::plain("backup", "right")));
            bench.reach_end().await?;
            bench.compare().await
        })
    });
    cells.add("K20", "k20.login-again", "logins last four seconds (KIP-368): the client logs in again and again while it reads", |bench| {
        Box::pin(async move {
            in_steps(bench);
            bench.script(|c| c.login = Some(Login { lifetime: Duration::from_secs(4), ..Login::plain("backup", "right") }));
            bench.settings.kafka = LOGIN.to_owned();
            bench.settings.until_end = false;
            let run = bench.start()?;
            bench.await_committed().await?;
            bench.await_state("logins", |c| c.served(Served::LoginAccepted) > 8).await?;
            bench.shows(Served::LoginAccepted);
            bench.fill(0, 60);
            bench.await_committed().await?;
            run.stop().await?;
            bench.compare().await
        })
    });
    cells.add(
        "K20",
        "k20.password-changes",
        "the account is refused for a while as the backup runs, and its connections break: it goes on by itself",
        |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.script(|c| c.login = Some(Login::plain("backup", "right")));
                bench.settings.kafka = LOGIN.to_owned();
                bench.event(When::FetchFrom(150), |c| {
                    c.login.as_mut().expect("a login").password = "changed".to_owned();
                    c.cut(1);
                });
                bench.shows(Served::LoginRefused);
                let run = bench.start()?;
                bench.await_state("a login refused", |c| c.served(Served::LoginRefused) > 0).await?;
                bench.script(|c| c.later(Duration::from_secs(1), |c| c.login.as_mut().expect("a login").password = "right".to_owned()));
                run.must_reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K20",
        "k20.read-revoked",
        "the right to read is taken while the backup reads, and given back: it goes on by itself",
        |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.event(When::FetchFrom(150), |c| {
                    c.partition(TOPIC, 0).denied = true;
                    c.later(Duration::from_secs(2), |c| c.partition(TOPIC, 0).denied = false);
                });
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
    cells.add(
        "K20",
        "k20.read-denied",
        "the right to read was never given: the lane stops with C0231; given, the next run stores everything",
        |bench| {
            Box::pin(async move {
                in_steps(bench);
                bench.fault(Fault::always(When::FetchFrom(0), Act::Code(code::TOPIC_AUTHORIZATION_FAILED)));
                bench.expect_stop(231).await?;
                bench.script(|c| c.end_faults());
                bench.reach_end().await?;
                bench.compare().await
            })
        },
    );
}
