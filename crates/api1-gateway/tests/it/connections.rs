//! Connections that hold on to the gateway with next to nothing, or with too much.

use std::net::SocketAddr;
use std::time::Duration;

use api1_gateway::app::Setup;
use api1_gateway::connection::Deadlines;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::support::{Gateway, PATIENCE, setup};

const GET: &[u8] = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

/// A byte so often, so that the connection is never silent.
const DRIP: Duration = Duration::from_millis(20);

/// Deadlines that a test can wait for, and a busy machine can keep.
const SOON: Duration = Duration::from_secs(2);
const LONGER: Duration = Duration::from_millis(2_500);

fn hasty() -> Setup {
    let mut setup = setup();
    setup.limits.connection = Deadlines { head: SOON, idle: Duration::from_secs(60), unread: SOON };
    setup
}

/// Writes `bytes` again and again until the other side has hung up.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    let dripping = async {
        let mut heard = [0; 1024];
        loop {
            tokio::select! {
                read = stream.read(&mut heard) => if !matches!(read, Ok(1..)) { return },
                () = tokio::time::sleep(DRIP) => if stream.write_all(bytes).await.is_err() { return },
            }
        }
    };
    tokio::time::timeout(PATIENCE, dripping).await.expect("the gateway hangs up");
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 4096];
    let length = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("it answers").unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[tokio::test]
async fn a_head_that_drips_in_is_cut_off_also_behind_a_good_request() {
    let gateway = Gateway::with(hasty()).await;
    for good_before in [false, true] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        if good_before {
            stream.write_all(GET).await.unwrap();
            let text = answer(&mut stream).await;
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        }
        stream.write_all(&GET[..GET.len() - 2]).await.unwrap();
        drip(&mut stream, b"X").await;
    }
}

#[tokio::test]
async fn the_body_of_a_refused_request_does_not_drip_in_for_ever() {
    let gateway = Gateway::with(hasty()).await;
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 1000000"] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = format!("POST /no/such/route HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let text = answer(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 404"), "{framing}: {text}");
        drip(&mut stream, b"1\r\nx\r\n").await;
    }
}

/// A client with next to no room for an answer.
fn small(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_and_few_more_are_made() {
    const ANSWERED: &str =
        r#"holdfast_http_request_duration_seconds_count{method="GET",route="/metrics",status="2xx"}"#;
    let gateway = Gateway::with(hasty()).await;
    let mut stream = small(gateway.address);
    let asking = async {
        // Once nobody reads the answers, nobody takes more requests, and in the end the connection is gone.
        while stream.write_all(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100)).await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the gateway hangs up");
    // The system would keep megabytes of answers, of some kilobytes each, for a client that reads none.
    let answered = gateway.metric(ANSWERED).await;
    assert!((1..200).contains(&answered), "{answered} answers were made");
}

#[tokio::test]
async fn requests_sent_far_ahead_of_an_answer_wait_and_are_all_answered() {
    const AHEAD: usize = 5_000;
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let (mut reader, mut writer) = TcpStream::connect(gateway.address).await.unwrap().into_split();
    let mut bytes = format!("GET /api1/jobs/{id}?wait=1s HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    // Handlers that wait for the store, that do not, and one with a body longer than what is read ahead.
    let body = "x".repeat(10_000);
    let post = format!("POST /api1/process HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    bytes.extend(b"GET /api1/stats HTTP/1.1\r\nHost: x\r\n\r\n".repeat(AHEAD / 2));
    bytes.extend(post.as_bytes().repeat(2));
    bytes.extend(GET.repeat(AHEAD / 2));
    let asking = async { writer.write_all(&bytes).await.expect("in the end all is taken") };
    let both = async { tokio::join!(asking, hear(&mut reader, 1 + AHEAD + 2)) };
    tokio::time::timeout(PATIENCE, both).await.expect("all are answered");
}

/// Reads until so many answers have begun.
async fn hear(reader: &mut OwnedReadHalf, wanted: usize) {
    let (mut heard, mut answers) = (Vec::new(), 0);
    while answers < wanted {
        assert!(reader.read_buf(&mut heard).await.unwrap() > 0, "hung up on after {answers} answers");
        let found: Vec<usize> =
            heard.windows(9).enumerate().filter(|(_, at)| at == b"HTTP/1.1 ").map(|at| at.0).collect();
        let Some(last) = found.last() else { continue };
        answers += found.len();
        heard.drain(..last + 9);
    }
}

#[tokio::test]
async fn who_takes_answers_more_slowly_than_they_are_made_gets_them_all() {
    const ASKED: usize = 500;
    let gateway = Gateway::start().await;
    let (mut reader, mut writer) = small(gateway.address).into_split();
    // Of some kilobytes each, so that they do not fit between the two, and what is written has to wait.
    let bytes = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(ASKED);
    let asking = async { writer.write_all(&bytes).await.expect("in the end all is taken") };
    let both = async { tokio::join!(asking, hear(&mut reader, ASKED)) };
    tokio::time::timeout(PATIENCE, both).await.expect("all are answered");
}

#[tokio::test]
async fn a_client_that_sends_far_ahead_behind_a_body_without_a_length_is_cut_off() {
    let gateway = Gateway::start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let wait = b"POST /api1/process HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    stream.write_all(wait).await.unwrap();
    gateway.metric_becomes("holdfast_waiting_requests", 1).await;
    let ahead = async { while stream.write_all(&GET.repeat(1_000)).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ahead).await.expect("the gateway hangs up");
    gateway.metric_becomes("holdfast_waiting_requests", 0).await;
}

#[tokio::test]
async fn who_waits_for_an_answer_or_between_two_requests_is_not_cut_off() {
    let gateway = Gateway::with(hasty()).await;
    let id = gateway.accepted("{}").await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // The second shows that the connection is as good as before.
    for patience in ["3s", "0s"] {
        let wait = format!("GET /api1/jobs/{id}?wait={patience} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(wait.as_bytes()).await.unwrap();
        let text = answer(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        // Longer than a head may take: nothing of the next one has come.
        let silent = tokio::time::timeout(LONGER, stream.read_u8()).await;
        assert!(silent.is_err(), "it neither hangs up nor says anything: {silent:?}");
    }
}
