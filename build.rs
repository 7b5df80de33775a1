//! The one build script of every appliance: links the kernel into the program.

fn main() {
    unikernel_build::link_image();
}
