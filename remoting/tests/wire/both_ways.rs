//! Requests in both directions over one connection, each side with its own numbers; the client's own life.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use waspmq_protocol::{RemotingCommand, ResponseCode};
use waspmq_remoting::{
    Batch, Client, ClientConfig, Connection, Handler, Limits, Replies, ReplyTo, RequestError, Server, ServerConfig,
};

use crate::fixture::{ECHO, HOLD, SOON, request, serve};

/// Answers with the request's body, after it, `twice`.
struct Twice;

impl Handler for Twice {
    fn handle(&self, _: &Arc<Connection>, requests: &mut Batch<'_>, replies: &mut Replies) {
        while let Some(request) = requests.next_request() {
            let body = [request.body, request.body].concat();
            replies.push(ReplyTo::of(request), RemotingCommand::response(ResponseCode::SUCCESS).with_body(body));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_call_each_other_with_the_same_numbers() {
    let running = serve(Limits::default());
    let client =
        Arc::new(Client::connect(running.address().to_string(), ClientConfig::default(), Some(Arc::new(Twice))));
    client.request(request(ECHO, 0, "hello"), SOON).await.unwrap();
    let connection = running.server.connections().pop().unwrap();
    let tasks: Vec<_> = (0..500)
        .map(|number| {
            let (client, connection) = (Arc::clone(&client), Arc::clone(&connection));
            tokio::spawn(async move {
                let text = format!("number {number}");
                let down = connection.request(request(ECHO, 0, text.clone()), SOON);
                let up = client.request(request(ECHO, 0, text.clone()), SOON);
                let (down, up) = tokio::join!(down, up);
                assert_eq!(up.unwrap().body, text);
                assert_eq!(down.unwrap().body, format!("{text}{text}"));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    connection.send_oneway(request(ECHO, 0, "no answer")).unwrap();
    client.request(request(ECHO, 0, "still in step"), SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_time_out_and_fail_when_the_connection_goes() {
    let running = serve(Limits::default());
    let client = Arc::new(Client::connect(running.address().to_string(), ClientConfig::default(), None));
    let error = client.request(request(HOLD, 0, ""), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout { .. }), "{error}");
    let waiting = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.request(request(HOLD, 0, ""), SOON).await }
    });
    running.until("both held", |running| running.actor.held.lock().unwrap().len() == 2).await;
    running.server.connections().pop().unwrap().close();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::Closed { .. }), "{error}");
    // And connects again for the next.
    assert_eq!(client.request(request(ECHO, 0, "again"), SOON).await.unwrap().body, "again");
    assert_eq!(client.metrics().accepted.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_said_with_the_address() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::connect(free.to_string(), ClientConfig::default(), None);
    let error = client.request(request(ECHO, 0, ""), SOON).await.unwrap_err();
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

/// Notes whose connections ended.
#[derive(Default)]
struct Gone(Mutex<Vec<u64>>);

impl Handler for Gone {
    fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, _: &mut Replies) {
        while let Some(request) = requests.next_request() {
            let responder = connection.responder(request);
            connection.close();
            drop(responder);
        }
    }

    fn closed(&self, connection: &Arc<Connection>) {
        assert!(connection.is_closed());
        self.0.lock().unwrap().push(connection.id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_before_close_is_sent_and_the_handler_hears_of_the_end_once() {
    let gone = Arc::new(Gone::default());
    let config = ServerConfig::new(vec!["127.0.0.1:0".parse().unwrap()]);
    let server = Server::bind(config, Arc::<Gone>::clone(&gone)).unwrap();
    let client = Client::connect(server.local_addrs()[0].to_string(), ClientConfig::default(), None);
    let answer = client.request(request(ECHO, 0, ""), SOON).await.unwrap();
    assert_eq!(answer.code, ResponseCode::SYSTEM_ERROR.0);
    let start = std::time::Instant::now();
    while gone.0.lock().unwrap().is_empty() {
        assert!(start.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(client);
    drop(server);
    assert_eq!(gone.0.lock().unwrap().len(), 1);
}
