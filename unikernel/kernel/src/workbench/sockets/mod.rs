//! Sockets, over the loopback interface.

mod family_tests;
mod ip_option_tests;
mod tcp_effect_tests;
mod tcp_option_tests;
mod tcp_stream_tests;
mod tcp_tests;
mod udp_message_tests;
mod udp_tests;
mod unix_tests;
mod vsock;
