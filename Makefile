# dkimroll. `make demo` shows the main job on loopback, `make check` builds and passes all tests, `make deb` makes a Debian package; each installs what it misses. docs/architecture.md, section 13,
# tells of the tests that go on for longer: sim, mutants, crash, faults, fuzz, bench, coverage.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VERSION := 0.1.0
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(if $(filter /usr,$(PREFIX)),/lib/systemd/system,$(SYSCONFDIR)/systemd/system)
DESTDIR ?=
BUILD ?= build
CC := gcc
SANITIZE ?=
COVERAGE ?=
# Jobs of our own, whether or not make was called with -j.
JOBS := $(shell nproc)

PACKAGES_BUILD := gcc libc6-dev make pkg-config libssl-dev libyaml-dev libldns-dev libsystemd-dev libsqlite3-dev libsmartcols-dev libseccomp-dev
PACKAGES_DEMO := bind9 bind9-dnsutils bind9-utils knot opendkim opendkim-tools python3 python3-dkim python3-dnspython procps
PACKAGES_CHECK := libcmocka-dev tzdata libopendkim-dev sqlite3 dbus-daemon knot-dnsutils clang libclang-rt-14-dev clang-tidy cppcheck mandoc bash-completion systemd binutils curl jq
PACKAGES_HOST := debootstrap iproute2
PACKAGES_DEB := build-essential debhelper lintian

LIBRARIES := openssl yaml-0.1 libsystemd sqlite3 smartcols libseccomp
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wnull-dereference -Werror -fno-common
HARDENING := -fstack-protector-strong -fstack-clash-protection -fPIE
comma := ,
ifeq ($(SANITIZE),)
OPTIMISE := -O2 -D_FORTIFY_SOURCE=2
else
OPTIMISE := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
ifneq ($(COVERAGE),)
# Without optimisation gcc guesses lengths worse.
OPTIMISE := -O0 --coverage -Wno-format-truncation
CPPFLAGS += -DCOVERAGE_FOLDER='"$(abspath $(BUILD))"'
LDFLAGS += --coverage -Wl,--wrap=_exit -Wl,--wrap=landlock_enforce $(BUILD)/tests/tools/coverage_exit.o
endif
CPPFLAGS += -Iinclude -D_GNU_SOURCE -DDKIMROLL_VERSION='"$(VERSION)"'
CFLAGS += -std=gnu17 -g $(OPTIMISE) $(WARNINGS) $(HARDENING) -MMD -MP
LDFLAGS += -pie -Wl,-z,relro,-z,now $(if $(SANITIZE),-fsanitize=address$(comma)undefined)
LDLIBS += $(shell pkg-config --libs $(LIBRARIES) 2>/dev/null) -lldns

# ONLY="src/base/*.c src/key/*.c" builds a part, while another part is under work.
ONLY ?= src/*/*.c
SOURCES := $(filter-out src/main.c,$(wildcard $(ONLY)))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY := $(BUILD)/libdkimroll.a
# Tests with an allocator of their own, beside which there is no room for that of the sanitizers.
OWN_ALLOCATOR := test_call_filter_memory test_dkim_signature_memory test_message_memory
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(filter-out $(if $(SANITIZE),$(OWN_ALLOCATOR:%=tests/unit/%.c)),$(wildcard tests/unit/test_*.c)))
UNIT_HELPERS := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(wildcard tests/unit/test_*.c),$(wildcard tests/unit/*.c)))

.PHONY: all check demo bench coverage sim mutants crash faults fuzz check-host deb install clean packages-build packages-demo packages-check packages-host packages-deb lint unit integration \
  tests-build tests-run crash-build crash-sample faults-build faults-sample simulated-lives fuzz-build fuzz-smoke

all: $(BUILD)/dkimroll

$(BUILD)/dkimroll: $(BUILD)/src/main.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIBRARY): $(OBJECTS)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# An archive, so that a test takes only the helpers that it uses.
$(BUILD)/tests/unit/libhelpers.a: $(UNIT_HELPERS)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(BUILD)/tests/unit/libhelpers.a $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(BUILD)/tests/unit/libhelpers.a $(LIBRARY) $(LDLIBS) -lcmocka

# Parts of the simulator have unit tests of their own.
$(BUILD)/tests/unit/test_sim_signer: $(addprefix $(BUILD)/tests/sim/,sim_signer.o sim_tables.o sim_filter_stream.o)
$(BUILD)/tests/unit/test_sim_disk: $(addprefix $(BUILD)/tests/sim/,sim_disk.o sim_disk_file.o)
# The oracle is tried in whole lives.
SIM_PARTS := $(filter-out $(BUILD)/tests/sim/simulate.o,$(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/sim/*.c)))
$(BUILD)/tests/unit/test_sim_oracle: $(SIM_PARTS)
# Calls on files that the simulator leads through tests/sim/sim_file_calls.c.
SIM_WRAPPED := open openat mkdir mkdirat link linkat rename renameat renameat2 unlink unlinkat rmdir remove write pwrite ftruncate fchmod fsync
SIM_WRAP := $(addprefix -Wl$(comma)--wrap=,$(SIM_WRAPPED))
SIM_FILES_TESTS := $(addprefix $(BUILD)/tests/unit/,test_sim_files test_sim_files_power)
$(SIM_FILES_TESTS): $(addprefix $(BUILD)/tests/sim/,sim_files.o sim_file_calls.o)
$(SIM_FILES_TESTS) $(BUILD)/tests/unit/test_sim_oracle: LDFLAGS += $(SIM_WRAP)
# Keys that were decoded before come from tests/sim/sim_keys.c.
SIM_WRAP_KEYS := -Wl,--wrap=PEM_read_bio_PrivateKey
# What differs from host to host comes from tests/sim/sim_host_calls.c.
SIM_WRAP_HOST := $(addprefix -Wl$(comma)--wrap=,stat lstat fstat fstatat getpid)
$(BUILD)/tests/unit/test_sim_oracle: LDFLAGS += $(SIM_WRAP_KEYS) $(SIM_WRAP_HOST)
$(BUILD)/tests/unit/test_table_opendkim: $(BUILD)/tests/sim/sim_tables.o

# Each allocation of the lifecycle fails once, also those of what a whole life does.
$(BUILD)/tests/unit/test_lifecycle_memory $(BUILD)/tests/unit/test_lifecycle_memory_life: LDFLAGS += $(addprefix -Wl$(comma)--wrap=,malloc calloc realloc strdup vasprintf __vasprintf_chk \
  lineage_copy lifecycle_apply lifecycle_reserve)

# What would go to the journal.
$(BUILD)/tests/unit/test_log: LDFLAGS += -Wl,--wrap=sd_journal_sendv

# The second opinion on signatures; no other program is linked with it.
$(BUILD)/tests/unit/test_dkim_opendkim: LDLIBS += -lopendkim

# Each call that may fail, of the objects of src alone, goes to tests/fault/fault_calls.c. With sanitizers only, which tell leaks and wild pointers.
FAULT_TESTS := $(patsubst tests/fault/%.c,$(BUILD)/tests/fault/%,$(wildcard tests/fault/test_*.c))
$(BUILD)/tests/fault/calls.list: $(BUILD)/tests/fault/fault_calls.o
	nm --defined-only $< | sed -n 's/.* T fault_call_\(.*\)/\1 fault_call_\1/p' >$@
$(BUILD)/libdkimroll-faults.a: $(LIBRARY) $(BUILD)/tests/fault/calls.list
	objcopy --redefine-syms=$(BUILD)/tests/fault/calls.list $< $@
$(BUILD)/tests/fault/test_%: $(BUILD)/tests/fault/test_%.o $(BUILD)/tests/fault/fault.o $(BUILD)/tests/fault/fault_calls.o \
  $(BUILD)/tests/unit/libhelpers.a $(BUILD)/libdkimroll-faults.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

# What kills the program at a chosen system call, and under which memory runs out, also in libraries.
CRASH_TOOLS := $(BUILD)/tests/crash/killer $(BUILD)/tests/crash/short.so $(BUILD)/tests/crash/synchronised.so
$(BUILD)/tests/crash/killer: $(BUILD)/tests/crash/killer.o
	$(CC) $(LDFLAGS) -o $@ $^
$(BUILD)/tests/crash/%.so: $(BUILD)/tests/crash/%.o
	$(CC) -shared -fPIC -o $@ $^

# The simulator (tests/sim/README.md).
SIMULATE := $(BUILD)/tests/sim/simulate
$(SIMULATE): $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/sim/*.c)) $(BUILD)/tests/unit/libhelpers.a $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
$(SIMULATE): LDFLAGS += $(SIM_WRAP) $(SIM_WRAP_KEYS) $(SIM_WRAP_HOST)

# Run in the place of dkimroll, or against its keeper, on a host of its own.
$(BUILD)/tests/host/%: $(BUILD)/tests/host/%.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $< $(LIBRARY) $(LDLIBS)

tests-build: $(SIMULATE) $(UNIT_TESTS) $(BUILD)/dkimroll

# ---- what users and CI call ----

packages-build:
	@tests/tools/install-packages $(PACKAGES_BUILD)
packages-demo:
	@tests/tools/install-packages $(PACKAGES_BUILD) $(PACKAGES_DEMO)
packages-check:
	@tests/tools/install-packages $(PACKAGES_BUILD) $(PACKAGES_DEMO) $(PACKAGES_CHECK) $(PACKAGES_HOST) $(PACKAGES_DEB)
	@tests/tools/promtool fetch
packages-host:
	@tests/tools/install-packages $(PACKAGES_BUILD) $(PACKAGES_DEMO) $(PACKAGES_HOST) $(PACKAGES_DEB)
packages-deb:
	@tests/tools/install-packages $(PACKAGES_BUILD) $(PACKAGES_DEB)

# pkg-config may be missing when make starts, so everything after an installation runs in a make of its own.
demo: packages-demo
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@DKIMROLL=$(abspath $(BUILD))/dkimroll tests/integration/demo.sh

check: packages-check
	@tests/tools/check $(JOBS)

# Fresh seeds until the time is over or something is violated: make sim HOURS=8
HOURS ?= 1
SEED ?= $(shell date +%s)
sim: packages-build
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(SIMULATE)
	@$(SIMULATE) --hours $(HOURS) --seed $(SEED)

# A Debian 12 of its own is made and booted in a folder, and gets the package.
check-host: packages-host
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/tests/host/probe $(BUILD)/tests/host/fake_loop
	@$(MAKE) --no-print-directory -s deb
	@BUILD=$(abspath $(BUILD)) tests/host/check-host.sh

# Each patch of tests/mutants takes a gate, a wait or an order away, and has to be noticed; survivors fail. MUTANTS="gate-absent wait-queue" for some.
mutants: packages-check
	@tests/tools/mutants $(MUTANTS)

bench: packages-demo
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@DKIMROLL=$(abspath $(BUILD))/dkimroll tests/bench/bench.sh

# How much of src/ the tests of check run; COVERAGE_MISSED=1 names what they do not.
coverage: packages-check
	@tests/tools/install-packages lcov
	@! test -d build-coverage || find build-coverage -name '*.gcda' -delete
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=build-coverage COVERAGE=1 build-coverage/tests/tools/coverage_exit.o
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=build-coverage COVERAGE=1 tests-build
	@-$(MAKE) --no-print-directory -s BUILD=build-coverage COVERAGE=1 unit integration
	@tests/tools/coverage build-coverage

# Killed at every system call that changes something; LIFE=daemon for one life, POINT=LIFE:CALL:before or :after for one point.
crash: packages-check
	@$(MAKE) --no-print-directory -s -j$(JOBS) crash-build
	@DKIMROLL=$(abspath $(BUILD))/dkimroll BUILD=$(abspath $(BUILD)) tests/crash/crash.sh $(if $(POINT),--replay $(POINT),--all $(if $(LIFE),--life $(LIFE)))

# Every call that may fail fails once.
faults: packages-check
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=build-sanitized SANITIZE=1 faults-build
	@FAULTS=$(or $(FAULTS),all) TEST_SECONDS=$(or $(TEST_SECONDS),7200) $(MAKE) --no-print-directory -s BUILD=build-sanitized SANITIZE=1 faults-sample

# ---- parts of check ----

# What measures real time runs alone; the rest TEST_JOBS at a time, the long ones first.
TEST_JOBS ?= 1
TEST_ALONE := test_clock test_loop test_loop_virtual test_loop_watch test_transport test_transport_callbacks test_transport_connections test_transport_tcp test_table_large \
  test_opendkim_reload test_opendkim_reload_unit test_signer_load scenario-commands scenario-demo scenario-load
TEST_LONG := test_life_clock test_life test_engine test_signer_opendkim test_signer_opendkim_proof test_signer_failures test_store_crash
SANITIZED := build-sanitized
SCENARIOS := $(sort $(wildcard tests/integration/scenario-*.sh))
SANITIZED_TESTS := $(filter-out $(OWN_ALLOCATOR:%=$(SANITIZED)/tests/unit/%),$(UNIT_TESTS:$(BUILD)/%=$(SANITIZED)/%))
LONG_FIRST := $(TEST_LONG:%=$(SANITIZED)/tests/unit/%) $(TEST_LONG:%=$(BUILD)/tests/unit/%)
RUN_TESTS = TEST_JOBS=$(TEST_JOBS) TEST_ALONE="$(TEST_ALONE)" DKIMROLL=$(abspath $(BUILD))/dkimroll tests/tools/run-tests $(BUILD)

unit: tests-build
	@$(RUN_TESTS) $(UNIT_TESTS)

integration: $(BUILD)/dkimroll
	@$(RUN_TESTS) $(SCENARIOS)

# The tests of both builds, which are there already, and the scenarios, as check runs them.
tests-run:
	@$(RUN_TESTS) $(LONG_FIRST) $(filter-out $(LONG_FIRST),$(SANITIZED_TESTS) $(SCENARIOS) $(UNIT_TESTS))

crash-build: $(BUILD)/dkimroll $(CRASH_TOOLS)
crash-sample: $(BUILD)/dkimroll $(CRASH_TOOLS)
	@DKIMROLL=$(abspath $(BUILD))/dkimroll BUILD=$(abspath $(BUILD)) tests/tools/run-tests $(BUILD) tests/crash/crash.sh

faults-build: $(FAULT_TESTS)
faults-sample: faults-build
	@tests/tools/run-tests $(BUILD) $(FAULT_TESTS)

simulated-lives: $(SIMULATE)
	@SIMULATE=$(abspath $(SIMULATE)) tests/tools/run-tests $(BUILD) tests/sim/simulated-lives.sh

lint:
	@tests/tools/lint

# ---- fuzzing: libFuzzer needs clang; every other build is gcc's ----

FUZZ_BUILD ?= build-fuzz
FUZZ_CC := clang
# One target after the other, or make fuzz FUZZ_JOBS=2 for two at a time; SECONDS is of each.
FUZZ_JOBS ?= 1
TARGET ?=
FUZZ_CFLAGS := -std=gnu17 -g -O1 -w -fno-common -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -MMD -MP
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_PROGRAMS := $(FUZZ_TARGETS:%=$(FUZZ_BUILD)/fuzz_%)
FUZZ_SHARED := $(patsubst %.c,$(FUZZ_BUILD)/%.o,$(filter-out $(wildcard tests/fuzz/fuzz_*.c),$(wildcard tests/fuzz/*.c)) tests/unit/dkim_signer.c)
FUZZ_LIBRARY := $(FUZZ_BUILD)/libdkimroll.a

fuzz-build: $(FUZZ_PROGRAMS)

$(FUZZ_BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -c -o $@ $<

$(FUZZ_LIBRARY): $(SOURCES:%.c=$(FUZZ_BUILD)/%.o) $(FUZZ_SHARED)
	@rm -f $@
	ar rcs $@ $^

$(FUZZ_BUILD)/fuzz_%: $(FUZZ_BUILD)/tests/fuzz/fuzz_%.o $(FUZZ_LIBRARY)
	$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LDLIBS) -lcmocka

# The seconds of make fuzz have the name that bash gives its own clock, which is why the shell gets them as an argument.
fuzz: packages-check
	@$(MAKE) --no-print-directory -s -j$(JOBS) fuzz-build
	@tests/tools/fuzz $(FUZZ_BUILD) $(or $(SECONDS),600) $(FUZZ_JOBS) $(or $(TARGET),$(FUZZ_TARGETS))

fuzz-smoke: fuzz-build
	@FUZZ_BUILD=$(FUZZ_BUILD) tests/tools/run-tests $(FUZZ_BUILD) tests/tools/fuzz-smoke

# ---- installation ----

# A package for Debian 12 in $(BUILD); lintian has nothing to say about it.
deb: packages-deb
	@systemd/debian/make-package $(BUILD) $(VERSION) "$(PACKAGES_BUILD)"

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/man/man5 \
	  $(DESTDIR)$(PREFIX)/share/doc/dkimroll/examples $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	install -m 755 $(BUILD)/dkimroll $(DESTDIR)$(PREFIX)/sbin/dkimroll
	install -m 644 docs/dkimroll.8 $(DESTDIR)$(PREFIX)/share/man/man8/dkimroll.8
	install -m 644 docs/dkimroll-policy.5 $(DESTDIR)$(PREFIX)/share/man/man5/dkimroll-policy.5
	install -m 644 README.md CHANGELOG.md LICENSE docs/architecture.md docs/cookbook.md $(DESTDIR)$(PREFIX)/share/doc/dkimroll/
	install -m 644 policies/* $(DESTDIR)$(PREFIX)/share/doc/dkimroll/examples/
	chmod 755 $(DESTDIR)$(PREFIX)/share/doc/dkimroll/examples/*.sh
	$(BUILD)/dkimroll completion >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/dkimroll
	sed 's|@SBINDIR@|$(PREFIX)/sbin|g' systemd/dkimroll-run.service.in >$(DESTDIR)$(UNITDIR)/dkimroll-run.service
	sed 's|@SBINDIR@|$(PREFIX)/sbin|g' systemd/dkimroll.service.in >$(DESTDIR)$(UNITDIR)/dkimroll.service
	sed 's|@SBINDIR@|$(PREFIX)/sbin|g' systemd/dkimroll-keeper@.service.in >$(DESTDIR)$(UNITDIR)/dkimroll-keeper@.service
	install -m 644 systemd/dkimroll-run.timer systemd/dkimroll-keeper.socket $(DESTDIR)$(UNITDIR)/
	install -m 644 systemd/dkimroll.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/dkimroll.conf
	install -m 644 systemd/dkimroll.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/dkimroll.conf

clean:
	rm -rf build build-*

-include $(shell find $(BUILD) $(FUZZ_BUILD) -path $(BUILD)/deb -prune -o -name '*.d' -print 2>/dev/null)
