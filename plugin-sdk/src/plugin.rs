//! `plugin!`: makes a plugin of a filter. Gives it its identity, and in a wasm build the exports and the manifest that
//! the broker looks for. The expansion is the only place outside `guest` with an unsafe attribute: exported names.

use crate::filter::Filter;

/// Identity of a plugin. Written by [`crate::plugin!`].
pub trait Plugin: Filter {
    /// Name in bindings and in `wasm:NAME(…)`.
    const NAME: &'static str;
    /// The author's version.
    const VERSION: &'static str;
    /// How much of each body it wants to see.
    const BODY_BYTES_MAX: u32;
    /// Linear memory it asks for; 0: the broker's default.
    const MEMORY_BYTES_MAX: u64;
}

/// Makes a plugin of a [`crate::Filter`]: `plugin!(MyFilter);`, or with any of these, in this order:
/// `plugin!(MyFilter, name = "my-filter", version = "1.2.3", body = 4096, memory = 8 << 20);`
///
/// Name and version are those of the crate unless said. `body` is how many bytes of each body the filter sees (0: none,
/// and bodies are then not even copied); `memory` asks for more linear memory than the broker's default.
#[macro_export]
macro_rules! plugin {
    ($filter:ty $(, name = $name:expr)? $(, version = $version:expr)? $(, body = $body:expr)? $(, memory = $memory:expr)? $(,)?) => {
        impl $crate::Plugin for $filter {
            const NAME: &'static str = $crate::plugin!(@or $($name)?; env!("CARGO_PKG_NAME"));
            const VERSION: &'static str = $crate::plugin!(@or $($version)?; env!("CARGO_PKG_VERSION"));
            const BODY_BYTES_MAX: u32 = $crate::plugin!(@or $($body)?; 0);
            const MEMORY_BYTES_MAX: u64 = $crate::plugin!(@or $($memory)?; 0);
        }

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            const LEN: usize = $crate::guest::manifest::<$filter, 0>().1;

            #[unsafe(link_section = "wq.manifest")]
            static MANIFEST: [u8; LEN] = $crate::guest::manifest::<$filter, LEN>().0;

            ::std::thread_local! {
                static INSTANCE: $crate::guest::Instance<$filter> = const { $crate::guest::Instance::new() };
            }

            #[unsafe(no_mangle)]
            extern "C" fn wq_abi_1() {}

            #[unsafe(no_mangle)]
            extern "C" fn wq_arenas() -> usize {
                $crate::guest::arenas()
            }

            #[unsafe(no_mangle)]
            extern "C" fn wq_panic() -> usize {
                $crate::guest::panic_buffer()
            }

            #[unsafe(no_mangle)]
            extern "C" fn control(op: i32, len: i32) -> i32 {
                INSTANCE.with(|instance| instance.control(op, len))
            }

            #[unsafe(no_mangle)]
            extern "C" fn filter(len: i32) -> i32 {
                INSTANCE.with(|instance| instance.filter(len))
            }
        };
    };
    (@or ; $default:expr) => { $default };
    (@or $given:expr; $default:expr) => { $given };
}
