//! What makes a module of a library.

/// The bytes of a text, for a section of them.
#[doc(hidden)]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    match text.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => panic!("as many bytes as the text has"),
    }
}

/// Says what the module is: its name, its type, its parameters, which others it needs, and what they may use of it.
///
/// ```ignore
/// module! {
///     name: "fan",
///     type: Fan,
///     depends: "i2c",
///     parameters: {
///         speed: Uint = SPEED, 0o644, "percent",
///         label: Text<16> = LABEL, 0o444, "what it is called",
///     },
///     exports: { fan_speed: 1, fan_stop: 2 },
/// }
/// ```
///
/// Parameters are statics of the types in [`parameter`](crate::parameter); the mode says who may read and write them in
/// `/sys/module/NAME/parameters` (0: nobody, they are for the command line alone). Exports are `extern "C"` functions of the library with
/// `#[unsafe(no_mangle)]`, and their versions. Version, license and description are those of `Cargo.toml`.
#[macro_export]
macro_rules! module {
    (
        name: $name:literal,
        type: $type:ty
        $(, depends: $depends:literal)?
        $(, parameters: { $($parameter:ident: $kind:ty = $value:path, $mode:literal, $text:literal),* $(,)? })?
        $(, exports: { $($export:ident: $version:literal),* $(,)? })?
        $(,)?
    ) => {
        static UNIKERNEL_SLOT: $crate::slot::Slot<$type> = $crate::slot::Slot::new();

        extern "C" fn unikernel_init(module: u64) -> i32 {
            UNIKERNEL_SLOT.init(module)
        }

        extern "C" fn unikernel_exit(_: u64) {
            UNIKERNEL_SLOT.exit();
        }

        static UNIKERNEL_PARAMETERS: &[$crate::abi::Parameter] = &[$($(
            $crate::parameter::describe::<$kind>(&$value, ::core::stringify!($parameter), $mode)
        ),*)?];

        static UNIKERNEL_EXPORTS: &[$crate::abi::Export] = &[$($($crate::abi::Export {
            name: $crate::abi::Text::new(::core::stringify!($export)),
            version: $version,
            address: $export as *const (),
        }),*)?];

        $crate::place_descriptor! {
            $crate::abi::Descriptor::new(
                $name,
                unikernel_init,
                unikernel_exit,
                UNIKERNEL_PARAMETERS,
                UNIKERNEL_EXPORTS,
            )
        }

        $crate::say! { "name=", $name }
        $crate::say! { "abi=", $crate::abi_version_text!() }
        $crate::say! { "version=", ::core::env!("CARGO_PKG_VERSION") }
        $crate::say! { "license=", ::core::env!("CARGO_PKG_LICENSE") }
        $crate::say! { "description=", ::core::env!("CARGO_PKG_DESCRIPTION") }
        $($crate::say! { "depends=", $depends })?
        $($(
            $crate::say! { "parm=", ::core::stringify!($parameter), ":", $text }
            $crate::say! { "parmtype=", ::core::stringify!($parameter), ":", ::core::stringify!($kind) }
        )*)?
    };
}

/// Where the descriptor is found: by its name in the object.
#[cfg(feature = "loadable")]
#[doc(hidden)]
#[macro_export]
macro_rules! place_descriptor {
    ($descriptor:expr) => {
        #[used]
        // SAFETY: an object has one module, so the name is there once.
        #[unsafe(export_name = "unikernel_module")]
        static UNIKERNEL_MODULE: $crate::abi::Descriptor = $descriptor;
    };
}

/// Where the descriptor is found: by the kernel that has the module in it.
#[cfg(not(feature = "loadable"))]
#[doc(hidden)]
#[macro_export]
macro_rules! place_descriptor {
    ($descriptor:expr) => {
        /// The module, for a kernel that is built with it.
        pub static UNIKERNEL_MODULE: $crate::abi::Descriptor = $descriptor;
    };
}

/// A line of `.modinfo`.
#[cfg(feature = "loadable")]
#[doc(hidden)]
#[macro_export]
macro_rules! say {
    ($($part:expr),*) => {
        const _: () = {
            const LINE: &str = ::core::concat!($($part,)* "\0");
            #[used]
            // SAFETY: strings go there.
            #[unsafe(link_section = ".modinfo")]
            static SAID: [u8; LINE.len()] = $crate::macros::bytes(LINE);
        };
    };
}

/// A module in the kernel says nothing: there is no file to ask.
#[cfg(not(feature = "loadable"))]
#[doc(hidden)]
#[macro_export]
macro_rules! say {
    ($($part:expr),*) => {};
}

/// Declares functions that other modules export, with the versions that this one is built for. The module has to name those in `depends`.
///
/// ```ignore
/// import! { fn fan_speed(percent: u32) -> i32: 1; }
/// ```
#[macro_export]
macro_rules! import {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?: $version:literal;)*) => {
        unsafe extern "C" {
            $(safe fn $name($($argument: $type),*) $(-> $result)?;)*
        }
        $($crate::say! { "symver=", ::core::stringify!($name), ":", $version })*
    };
}
