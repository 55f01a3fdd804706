//! A whole evening, in one process: guests come over each transport, talk, and go; one does not listen.

use anyhow::{Context, ensure};
use pipewerks::{Addr, BoxListener, Listener};
use tokio_util::task::AbortOnDropHandle;

use crate::guest::Guest;
use crate::room::{Room, code};
use crate::server;

/// Serves at all of these addresses, with one guest at each.
pub(crate) async fn run(addrs: &[Addr]) -> anyhow::Result<()> {
    let listeners = server::listen(addrs).await?;
    let addrs: Vec<Addr> = listeners.iter().map(BoxListener::local_addr).collect();
    let serving = tokio::spawn(server::serve(listeners, Room::new()));
    let _serving = AbortOnDropHandle::new(serving);

    let mut guests = come(&addrs).await?;
    talk(&mut guests).await?;
    let first = addrs.first().context("no address")?;
    send_the_slow_one_away(first, &mut guests).await?;
    go(guests).await
}

async fn come(addrs: &[Addr]) -> anyhow::Result<Vec<Guest>> {
    let mut guests: Vec<Guest> = Vec::new();
    for (number, addr) in addrs.iter().enumerate() {
        let mut guest = Guest::join(addr, &name(number)).await?;
        let names: Vec<String> = (0..number).map(name).collect();
        let welcome = match number {
            0 => "* nobody else is here".to_owned(),
            _ => format!("* here are {}", names.join(", ")),
        };
        expect(&mut guest, &welcome).await?;
        let line = format!("* {} joined over {}", name(number), addr.scheme());
        for other in &mut guests {
            expect(other, &line).await?;
        }
        println!("{line}");
        guests.push(guest);
    }
    Ok(guests)
}

async fn talk(guests: &mut [Guest]) -> anyhow::Result<()> {
    for speaker in 0..guests.len() {
        guests[speaker].say("good evening").await?;
        let line = format!("{}: good evening", name(speaker));
        for (number, guest) in guests.iter_mut().enumerate() {
            if number != speaker {
                expect(guest, &line).await?;
            }
        }
        println!("{line}");
    }
    Ok(())
}

/// One joins and hears nothing; the others go on talking until the room has enough of it.
async fn send_the_slow_one_away(addr: &Addr, guests: &mut [Guest]) -> anyhow::Result<()> {
    let slow = Guest::join(addr, "slow").await?;
    let joined = format!("* slow joined over {}", addr.scheme());
    for guest in &mut *guests {
        expect(guest, &joined).await?;
    }
    println!("{joined}");

    let (speaker, others) = guests.split_first_mut().context("no guests")?;
    let sent_away = "* slow was too slow";
    let line = "x".repeat(4_000);
    let heard = format!("{}: {line}", name(0));
    let mut said = 0;
    let mut gone = others.is_empty();
    while !gone {
        // The window of a stream, and the queue behind it, hold less than this.
        ensure!(said < 1_000, "{said} lines went to a guest who hears none");
        speaker.say(&line).await?;
        said += 1;
        // All hear each line before the next is said: nobody but the slow one falls behind.
        for guest in &mut *others {
            let mut next = hear(guest).await?;
            if next == sent_away {
                gone = true;
                next = hear(guest).await?;
            }
            ensure!(next == heard, "another line: {next:.60}");
        }
    }
    if said > 0 {
        expect(speaker, sent_away).await?;
        let end = slow.closed().await;
        println!("{sent_away}: after {said} lines that nobody else waited for; connection {end}");
        ensure!(end.code() == Some(code::TOO_SLOW), "{end}");
    }
    Ok(())
}

async fn go(mut guests: Vec<Guest>) -> anyhow::Result<()> {
    while let Some(guest) = guests.pop() {
        guest.leave().await?;
        let line = format!("* {} left", name(guests.len()));
        for other in &mut guests {
            expect(other, &line).await?;
        }
        println!("{line}");
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("guest-{number}")
}

async fn hear(guest: &mut Guest) -> anyhow::Result<String> {
    guest.hear().await?.context("the room fell silent")
}

pub(crate) async fn expect(guest: &mut Guest, line: &str) -> anyhow::Result<()> {
    let heard = hear(guest).await?;
    ensure!(heard == line, "heard {heard:?} instead of {line:?}");
    Ok(())
}
