//! Enums whose variants have fixed names on the wire, in metrics and in logs.

/// Declares a fieldless enum from one list of variants and names, with `ALL`, `as_str` and `Display`. A variant cannot
/// be missing from `ALL`, nor lack a name.
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        pub enum $Enum:ident { $($(#[$doc:meta])* $Variant:ident = $name:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Enum { $($(#[$doc])* $Variant,)+ }

        impl $Enum {
            /// Every variant, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$Variant,)+];

            /// The fixed name: users match on it, so it never changes.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => $name,)+ }
            }
        }

        /// The name in quotes, as logs show it.
        impl std::fmt::Debug for $Enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use named_enum;

/// The names in the first column of the tables in one section of `docs/operate.md`, subsections included.
#[cfg(test)]
pub(crate) fn documented(heading: &str) -> std::collections::BTreeSet<&'static str> {
    let operate = include_str!("../../docs/operate.md");
    let (_, section) = operate.split_once(&format!("\n## {heading}\n")).expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).collect()
}
