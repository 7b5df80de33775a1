//! Under construction.
/// Links the kernel into the app.
pub fn link_image() {}
