use pipe_core::*;
use pipe_inproc::InprocTransport;
use pipe_webrtc::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use stats_alloc::*;
#[global_allocator]
static GLOBAL: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heap() {
    let s = WebRtcSettings::default().with_bind_addrs(vec!["127.0.0.1".parse().unwrap()]);
    let t = WebRtcTransport::new(InprocTransport::new()).with_settings(s).unwrap().with_config(Config::default().with_max_streams(64).with_stream_window(32<<10).with_connection_window(256<<10)).unwrap();
    let l = t.listen(&"webrtc+inproc://".parse().unwrap()).await.unwrap();
    let a = l.local_addr(); let (x, y) = tokio::try_join!(t.dial(&a), l.accept()).unwrap();
    let data = vec![7u8; 4096];
    for phase in 0..20 {
        let n = 2000;
        let open = async { for i in 0..n { let mut s = x.open_stream().await.unwrap(); let _ = s.write_all(&data).await; if i%2==0 { let _ = s.shutdown().await; } } };
        let acc = async { for i in 0..n { let mut s = y.accept_stream().await.unwrap(); if i%3==0 { let _ = s.read_u8().await; } } };
        tokio::join!(open, acc);
        while x.stats().streams_open + y.stats().streams_open > 0 { tokio::time::sleep(std::time::Duration::from_millis(5)).await; }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let st = GLOBAL.stats();
        println!("{phase} in use {} allocs {}", st.bytes_allocated - st.bytes_deallocated, st.allocations - st.deallocations);
    }
}
