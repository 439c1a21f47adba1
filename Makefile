# Every target does all the set-up it needs. Tools go to .tools/, what is built to target/; `make clean` removes both.

PYTHON ?= python3
# What functions are built for. `make deploy` keeps the deployed one. Only x86_64 has been built and tested so far; arm64
# is a fifth cheaper on Lambda.
TARGET_ARCHITECTURE = $(or $(ARCHITECTURE),x86_64)

AWS_TOOLS := .tools/aws/ready
SAM_TOOLS := .tools/sam/ready
BROWSER_TOOLS := .tools/browser/ready
MOTO_TOOLS := .tools/moto/ready
CARGO_TOOLS := .tools/cargo/ready
TEST_TOOLS := .tools/cargo-tests/ready
AWS := $(CURDIR)/.tools/aws/bin/aws
SAM := $(CURDIR)/.tools/sam/bin/sam
# Three at a time, as these tests mostly wait for deployments. A file's tests stay together: they share a local AWS. Files
# begin in the order given.
PYTEST := .tools/aws/bin/python -m pytest --quiet -p no:cacheprovider -n 3 --dist loadfile --no-loadscope-reorder
CARGO_TEST_TOOLS := PATH=$(CURDIR)/.tools/cargo-tests/bin:$$PATH
FUNCTIONS := connection-acceptor health-watcher drift-watcher target-follower
BUILDS := build-ConnectionAcceptor build-HealthWatcher build-DriftWatcher build-TargetFollower
# The flags of everything that goes to AWS: no tables for unwinding, since a panic aborts; no path of this machine, so that
# the same sources give the same bytes in every folder.
LAMBDA_FLAGS := -C force-unwind-tables=no --remap-path-prefix=$(CURDIR)=/privatelink-guard \
	--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo
# With the tools' own Python first: cargo-lambda finds zig in it.
CARGO_LAMBDA := PATH=$(CURDIR)/.tools/sam/bin:$$PATH RUSTFLAGS='$(LAMBDA_FLAGS)' cargo-lambda
LAMBDA_BUILD = $(CARGO_LAMBDA) lambda build --profile lambda --target $(TARGET_$(TARGET_ARCHITECTURE))
export SAM_CLI_TELEMETRY := 0
# cargo sets these for what it starts, such as `sam build`. ring's build script watches them, and would be compiled anew.
unexport $(filter CARGO_PKG_% CARGO_MANIFEST_%,$(.VARIABLES))

.PHONY: help setup demo verify install unit flow docs inbox pages pictures test python-tests rust-tests lint \
	static-checks local-build attack fuzz soak mutants coverage bench bench-tools functions command release reproducible audit deploy package clean \
	$(BUILDS)

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(AWS_TOOLS) $(SAM_TOOLS) $(BROWSER_TOOLS) $(MOTO_TOOLS) ## Install the pinned tools into .tools/

.tools/%/ready: tools/%.txt
	@$(PYTHON) tools/install.py $*

$(BROWSER_TOOLS): tools/browser/package.json tools/browser/package-lock.json tools/browser/unpack.mjs

local-build: ## Compile everything, tests too, for this machine
	@echo "==> Compiling for this machine (the first time about five minutes and 8 GB of memory: EC2's SDK is large)"
	@# All targets at once: the SDK is then compiled once, for the functions and for the tests.
	@cargo build --quiet --workspace --all-targets

# Tools are installed while EC2's SDK compiles: for minutes that keeps one core busy.
AT_ONCE := $(MAKE) --no-print-directory --jobs=2

demo: ## Run the guard on a local AWS and play its story; KEEP=1 leaves it running
	@$(AT_ONCE) local-build $(AWS_TOOLS) $(SAM_TOOLS)
	@cargo run --quiet --package story --bin demo -- $(if $(KEEP),--keep)

# Its settings are documented in docs/verify.md. Only the story's package is compiled: no SDK, and little memory.
verify: $(AWS_TOOLS) ## The story on AWS itself, with a report: PROFILE=... CONSUMER_PROFILE=... [STRANGER_PROFILE=...]
	@cargo run --quiet --package story --bin verify

install: local-build ## Install the command privatelink-guard for you; after `make demo` in a second
	@install -D -m 755 target/debug/privatelink-guard $(or $(CARGO_HOME),$(HOME)/.cargo)/bin/privatelink-guard

unit: ## The tests of the pure core: seconds, without compiling the AWS SDK; NAME=... selects
	@cargo test --package guard-core -- $(NAME)

flow: $(AWS_TOOLS) $(SAM_TOOLS) $(MOTO_TOOLS) local-build ## One flow against the deployed stack: NAME=... selects
	@cargo test --package flows -- $(NAME)

docs: $(AWS_TOOLS) ## Write what is generated: docs/checks.md, README's table, docs/parameters.md, docs/command.md's options, examples, infra/stackset*.yaml
	@.tools/aws/bin/python tools/parameter_page.py
	@.tools/aws/bin/python tools/role_templates.py
	@.tools/aws/bin/python tools/stackset.py
	@cargo run --quiet --package guard-core --example catalogue -- write
	@UPDATE_EXAMPLES=1 cargo test --quiet --package guard-core --lib -- examples >/dev/null
	@# Of the whole workspace: of this package alone, with fewer features, the AWS SDK would be compiled anew.
	@UPDATE_EXAMPLES=1 cargo test --quiet --workspace --test report --test documents >/dev/null

inbox: ## Write a page with example alerts as email, Slack, Teams and phones show them
	@cargo run --quiet --package story --bin inbox

# The demo's recording is replaced only if the demo prints other words, a photograph only if its page is another.
pictures: $(AWS_TOOLS) $(SAM_TOOLS) $(BROWSER_TOOLS) local-build ## Make the documents' pictures, docs/images, from what the code prints now
	@echo "==> Playing the demo, for its picture (three minutes)"
	@cargo run --quiet --package story --bin demo -- --record docs/images/demo.txt >target/demo.log || \
		{ cat target/demo.log; exit 1; }
	@.tools/aws/bin/python tests/pages/pictures.py

lint: static-checks local-build ## Formatting, ruff, the templates, clippy
	@echo "==> clippy"
	@# As a wrapper around the build, clippy shares the compiled dependencies: docs/adr/0009-compile-the-sdk-once.md.
	@RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS="-Dwarnings" cargo build --quiet --workspace --all-targets

# What needs nothing compiled.
static-checks: $(AWS_TOOLS) $(SAM_TOOLS)
	@echo "==> Formatting, ruff, and the templates"
	@cargo fmt --all --check
	@.tools/aws/bin/ruff check --no-cache
	@$(SAM) validate --lint
	@.tools/aws/bin/cfn-lint template.yaml infra/*.yaml

pages: $(AWS_TOOLS) $(BROWSER_TOOLS) local-build ## The pages of `check --html` in a browser; pictures in target/pages/
	@$(PYTEST) tests/pages

# Compiled once, by clippy, which compiles what rustc does and lints it. Then Python's tests and the Rust tests at once,
# since flows mostly wait; lines of the former are marked.
test: export RUSTC_WORKSPACE_WRAPPER := clippy-driver
test: export CLIPPY_ARGS := -Dwarnings
test: ## All tests: units, properties, the local AWS's, the templates', the pages', and flows on the stack
	@$(AT_ONCE) python-tests rust-tests

python-tests: SHELL := bash
python-tests: .SHELLFLAGS := -o pipefail -c
# Those of infra/ begin first: the AWS CLI waits there for more than a minute.
python-tests: local-build static-checks $(BROWSER_TOOLS)
	@for each in local-aws/tests "tests/infra tests/template tests/pages"; do \
		$(PYTEST) $$each 2>&1 | awk '{ print "pytest: " $$0; fflush() }' || exit; \
	done

# One more at a time than there are cores.
rust-tests: local-build static-checks $(MOTO_TOOLS)
	@RUST_TEST_THREADS=$$(($$(getconf _NPROCESSORS_ONLN) + 1)) cargo test --workspace

attack: local-build ## The long attacks: 20 seeds at each rate of faults, and more impostors; ATTACK_SEED=... begins elsewhere
	@cargo test --workspace --test attack -- --ignored

fuzz: local-build ## The parsers of what comes from outside, FUZZ_CASES inputs each (default a million)
	@FUZZ_CASES=$${FUZZ_CASES:-1000000} cargo test --workspace --test attack -- parsers

soak: $(AWS_TOOLS) local-build ## A thousand warm runs of each function: memory and open files must not grow
	@.tools/aws/bin/python benches/soak.py $(OPTIONS)

mutants: $(TEST_TOOLS) ## Change guard-core in about 1,600 ways and see that a test fails: hours; OPTIONS="--file ..." selects
	@# That a property fails is enough; the smallest counterexample is of no interest.
	@PROPTEST_MAX_SHRINK_ITERS=0 $(CARGO_TEST_TOOLS) cargo mutants --package guard-core --output target $(OPTIONS)

COVERED := --ignore-filename-regex '(^|/)(tests|testing|functions|cli|benches)/'
coverage: $(TEST_TOOLS) ## Which lines of guard-core and guard-aws the Rust tests run; page in target/llvm-cov/html
	@rustup component add llvm-tools
	@$(CARGO_TEST_TOOLS) cargo llvm-cov --workspace --exclude flows --html $(COVERED) $(OPTIONS)
	@$(CARGO_TEST_TOOLS) cargo llvm-cov report --summary-only $(COVERED)

bench: $(AWS_TOOLS) $(SAM_TOOLS) ## Measure the guard side by side with Python; OPTIONS="--quick" for a short run
	@echo "==> Compiling for AWS (about eleven minutes and 6 GB of memory)"
	@$(CARGO_LAMBDA) lambda build --profile lambda --target $(TARGET_$(subst aarch64,arm64,$(shell uname -m))) \
		$(addprefix --package ,$(FUNCTIONS))
	@.tools/aws/bin/python benches/run.py $(OPTIONS)

bench-tools: .tools/custodian/ready .tools/prowler/ready ## Install Cloud Custodian and Prowler for `make bench`

# What `sam build` calls. With LOCAL=1 the functions are built for this machine, fast; else for AWS, small.
build-ConnectionAcceptor: FUNCTION = connection-acceptor
build-HealthWatcher: FUNCTION = health-watcher
build-DriftWatcher: FUNCTION = drift-watcher
build-TargetFollower: FUNCTION = target-follower
ifeq ($(LOCAL),1)
$(BUILDS): local-build
	@cp target/debug/$(FUNCTION) $(ARTIFACTS_DIR)/bootstrap
else
# All at once, so that they are linked side by side: for the other functions nothing is left to do.
$(BUILDS): $(SAM_TOOLS)
	@rustup target add $(TARGET_$(TARGET_ARCHITECTURE))
	@$(LAMBDA_BUILD) $(addprefix --package ,$(FUNCTIONS))
	@cp target/lambda/$(FUNCTION)/bootstrap $(ARTIFACTS_DIR)/bootstrap
endif
TARGET_arm64 := aarch64-unknown-linux-gnu
TARGET_x86_64 := x86_64-unknown-linux-gnu

functions: $(AWS_TOOLS) $(SAM_TOOLS) ## Build the functions for AWS, into target/functions, ready to deploy
	@echo "==> Compiling for AWS, $(TARGET_ARCHITECTURE) (about eleven minutes and 6 GB of memory)"
	@rustup target add $(TARGET_$(TARGET_ARCHITECTURE))
	@$(LAMBDA_BUILD) $(addprefix --package ,$(FUNCTIONS))
	@.tools/aws/bin/python infra/artifacts.py write $(or $(OUT),target/functions) $(TARGET_ARCHITECTURE) target/lambda

# By itself: together with the functions, it would switch on features of the SDK that they do not need.
command: $(SAM_TOOLS)
	@echo "==> Compiling the command, $(TARGET_ARCHITECTURE) (ten minutes)"
	@$(LAMBDA_BUILD) --package privatelink-guard
	@cp target/lambda/privatelink-guard/bootstrap target/lambda/privatelink-guard-$(TARGET_ARCHITECTURE)

ARCHITECTURES ?= x86_64
release: $(AWS_TOOLS) $(SAM_TOOLS) $(CARGO_TOOLS) ## Build a release into dist/, from a commit: docs/release.md
	@.tools/aws/bin/python infra/release.py check
	@rm -rf dist
	@for each in $(ARCHITECTURES); do $(MAKE) functions command ARCHITECTURE=$$each OUT=dist || exit; done
	@.tools/aws/bin/python infra/release.py complete dist $(ARCHITECTURES)

# The tools are shared: they are pinned, and no path of theirs may be in the result either.
reproducible: $(SAM_TOOLS) ## Build connection-acceptor in two clones of this commit and compare the bytes: half an hour
	@rm -rf target/clones
	@$(THIS_MAKE) --no-print-directory $(CLONES:%=target/clones/%/bootstrap)
	@cd target/clones && sha256sum $(CLONES:=/bootstrap) && cmp $(CLONES:=/bootstrap) && echo "The same bytes."

CLONES := one another/deeper
target/clones/%/bootstrap:
	@git clone --quiet . $(@D)
	@ln -s $(CURDIR)/.tools $(@D)/.tools
	@# The clone's lists of tools are newer than the tools, and the same.
	@$(THIS_MAKE) --no-print-directory -C $(@D) --old-file=$(SAM_TOOLS) build-ConnectionAcceptor ARTIFACTS_DIR=.

audit: $(CARGO_TOOLS) ## The dependencies: advisories (needs the network), licences, sources, duplicates
	@PATH=$(CURDIR)/.tools/cargo/bin:$$PATH cargo deny check

# By another name, since `make -n` runs every line that has MAKE's own.
THIS_MAKE := $(MAKE)
# Its settings are documented in infra/deploy.py. Make passes on what the command line and the environment set.
deploy: $(AWS_TOOLS) ## Deploy with your credentials; SET="Name=value ..." changes parameters; PREBUILT=... compiles nothing
	@MAKE=$(THIS_MAKE) .tools/aws/bin/python infra/deploy.py

# Its settings are documented in infra/package.py.
package: $(AWS_TOOLS) ## Upload what was built, for StackSets and Terraform: PREFIX=... REGIONS="... ..." [READERS=...] [BUILD=...]
	@.tools/aws/bin/python infra/package.py

clean: ## Remove what was built and installed
	rm -rf target dist .aws-sam .tools
