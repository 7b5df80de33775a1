//! Links the image, and writes client and server of the service. The interface is stated here instead
//! of in a `.proto` file, so that nobody needs `protoc`; `src/messages.rs` has the messages.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    unikernel_build::link_image();
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("crate::messages::Question")
            .output_type("crate::messages::Answer")
            .codec_path("tonic_prost::ProstCodec")
    };
    let service = Service::builder()
        .name("Oracle")
        .package("oracle")
        .method(method("ask", "Ask").build())
        .method(method("ask_often", "AskOften").server_streaming().build())
        .build();
    Builder::new().compile(&[service]);
}
