//! Everything, on a clock that stands still while somebody works.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_bad_link_takes_its_time_and_loses_nothing() -> anyhow::Result<()> {
    it_gets_worse().await
}

#[tokio::test(start_paused = true)]
async fn a_link_that_heals_in_time_loses_nothing() -> anyhow::Result<()> {
    it_is_cut_and_healed().await
}

#[tokio::test(start_paused = true)]
async fn streams_that_do_not_wait_are_told() -> anyhow::Result<()> {
    it_is_cut_and_streams_are_told().await
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_gone_fails_everything_and_can_be_dialed_again() -> anyhow::Result<()> {
    it_is_cut_for_good().await
}

#[tokio::test(start_paused = true)]
async fn the_states_come_in_order_and_when_they_should() -> anyhow::Result<()> {
    use ConnState::{Closed, Connected, Disconnected, Failed};

    let config = config();
    let game = Game::start(config.clone()).await?;
    let mut state = game.conn.state();
    for _ in 0..2 {
        let start = Instant::now();
        game.link.cut();
        state.wait_for(|state| *state == Disconnected).await?;
        assert!(start.elapsed() <= config.disconnected_after);
        game.link.heal();
        state.wait_for(|state| *state == Connected).await?;
    }
    game.conn.close(0, "");
    let states = game.states.await?;
    let flips = [
        Connected,
        Disconnected,
        Connected,
        Disconnected,
        Connected,
        Closed,
    ];
    assert_eq!(states, flips);

    let game = Game::start(config.clone()).await?;
    let start = Instant::now();
    game.link.cut();
    let reason = game.conn.closed().await;
    assert!(start.elapsed() <= config.failed_after);
    assert_eq!(reason.code(), None, "{reason}");
    assert_eq!(game.states.await?, [Connected, Disconnected, Failed]);
    Ok(())
}
