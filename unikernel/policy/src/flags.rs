//! Sets of bits as types, with the methods that `bitflags` has. Not that crate: programs without a standard library use this one
//! (`unikernel::policy`), and in a build of the whole workspace `bitflags` has its feature `std`, which others ask for.

/// Defines a set of flags.
macro_rules! flags {
    ($(#[$doc:meta])* pub struct $name:ident: $bits:ty { $($(#[$flag_doc:meta])* const $flag:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name($bits);

        impl $name {
            $($(#[$flag_doc])* pub const $flag: Self = Self($value);)*

            /// None.
            pub const fn empty() -> Self {
                Self(0)
            }

            /// Each of them.
            pub const fn all() -> Self {
                Self(0 $(| $value)*)
            }

            /// The bits.
            pub const fn bits(&self) -> $bits {
                self.0
            }

            /// What these bits say, if each is a flag.
            pub const fn from_bits(bits: $bits) -> Option<Self> {
                if bits & !Self::all().0 == 0 { Some(Self(bits)) } else { None }
            }

            /// True if there is none.
            pub const fn is_empty(&self) -> bool {
                self.0 == 0
            }

            /// True if all of `other` are in it.
            pub const fn contains(&self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// True if one of `other` is in it.
            pub const fn intersects(&self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Puts `other` in, or takes it away.
            pub const fn set(&mut self, other: Self, is_in: bool) {
                self.0 = if is_in { self.0 | other.0 } else { self.0 & !other.0 };
            }

            /// Those of either.
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Those of both.
            pub const fn intersection(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// Those that `other` has not.
            pub const fn difference(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl core::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.union(other)
            }
        }

        impl core::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                *self = self.union(other);
            }
        }

        impl core::ops::BitAnd for $name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                self.intersection(other)
            }
        }

        impl core::ops::Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                self.difference(other)
            }
        }
    };
}

pub(crate) use flags;
