//! A gRPC service with `tonic`: one call with one answer, one with a stream of them.
//!
//! `grpc [port]` serves (8080). The same program is its own client: `grpc ask http://host:port TEXT` on a
//! Linux machine asks an appliance.

mod messages;

/// Written by the build script.
mod oracle {
    #![expect(unreachable_pub, reason = "generated")]
    #![allow(clippy::all, clippy::allow_attributes, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/oracle.Oracle.rs"));
}

use std::error::Error;
use std::pin::Pin;

use messages::{Answer, Question};
use oracle::oracle_client::OracleClient;
use oracle::oracle_server::{Oracle, OracleServer};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// More answers than this are refused.
const MOST_ANSWERS: u32 = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [ask, server, text] if ask == "ask" => query(server.clone(), text.clone()).await,
        [] => serve(8080).await,
        [port] => serve(port.parse()?).await,
        _ => Err("usage: grpc [port], or grpc ask http://host:port TEXT".into()),
    }
}

async fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    // Whoever reads the line may connect at once.
    let incoming = TcpIncoming::bind(([0, 0, 0, 0], port).into())?.with_nodelay(Some(true));
    println!("listening on port {port}");
    Server::builder().add_service(OracleServer::new(Parrot)).serve_with_incoming(incoming).await?;
    Ok(())
}

/// The client: asks once, and then for three answers.
async fn query(server: String, text: String) -> Result<(), Box<dyn Error>> {
    let mut client = OracleClient::connect(server).await?;
    let question = Question { text, times: 3 };
    let answer = client.ask(question.clone()).await?.into_inner();
    println!("{}", answer.text);
    let mut answers = client.ask_often(question).await?.into_inner();
    while let Some(answer) = answers.next().await {
        let Answer { text, number } = answer?;
        println!("{number}: {text}");
    }
    Ok(())
}

/// An oracle that says what it hears.
struct Parrot;

#[tonic::async_trait]
impl Oracle for Parrot {
    type AskOftenStream = Pin<Box<dyn Stream<Item = Result<Answer, Status>> + Send>>;

    async fn ask(&self, request: Request<Question>) -> Result<Response<Answer>, Status> {
        let text = request.into_inner().text;
        if text.is_empty() {
            return Err(Status::invalid_argument("there is no question"));
        }
        Ok(Response::new(Answer { text, number: 1 }))
    }

    async fn ask_often(&self, request: Request<Question>) -> Result<Response<Self::AskOftenStream>, Status> {
        let Question { text, times } = request.into_inner();
        if times > MOST_ANSWERS {
            return Err(Status::out_of_range(format!("at most {MOST_ANSWERS} answers")));
        }
        let answers = (1..=times).map(move |number| Ok(Answer { text: text.clone(), number }));
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }
}
