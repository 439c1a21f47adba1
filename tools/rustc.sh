#!/bin/sh
# What cargo calls instead of rustc (.cargo/config.toml). Of an AWS SDK we call a few of hundreds of functions. Told so, rustc
# generates code for those alone. The flag is unstable, so the compiler, whose version is pinned, is told to take it:
# docs/adr/0009-compile-the-sdk-once.md.
# https://doc.rust-lang.org/nightly/unstable-book/compiler-flags/hint-mostly-unused.html
case " $* " in
*" --crate-name aws_sdk_"*) RUSTC_BOOTSTRAP=1 exec "$@" -Z hint-mostly-unused ;;
*) exec "$@" ;;
esac
