# dkimroll. `make demo` shows the main job on loopback, `make check` builds and passes all tests; both install what is missing.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build
CC := gcc
SANITIZE ?=

PACKAGES_BUILD := gcc libc6-dev make pkg-config libssl-dev libyaml-dev libldns-dev libsystemd-dev libsqlite3-dev libsmartcols-dev
PACKAGES_DEMO := bind9 bind9-dnsutils bind9-utils knot knot-dnsutils opendkim opendkim-tools python3 python3-dkim python3-dnspython
PACKAGES_CHECK := libcmocka-dev clang-tidy cppcheck mandoc libasan8 libubsan1 sqlite3

LIBRARIES := openssl yaml-0.1 libsystemd sqlite3 smartcols
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wnull-dereference -Werror -fno-common
HARDENING := -fstack-protector-strong -fstack-clash-protection -fPIE
ifeq ($(SANITIZE),)
OPTIMISE := -O2 -D_FORTIFY_SOURCE=2
else
OPTIMISE := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
CPPFLAGS += -Iinclude -D_GNU_SOURCE -DDKIMROLL_VERSION='"$(VERSION)"'
CFLAGS += -std=gnu17 -g $(OPTIMISE) $(WARNINGS) $(HARDENING) -MMD -MP
LDFLAGS += -pie -Wl,-z,relro,-z,now $(if $(SANITIZE),-fsanitize=address$(comma)undefined)
comma := ,
LDLIBS += $(shell pkg-config --libs $(LIBRARIES) 2>/dev/null) -lldns

# ONLY="src/base/*.c src/key/*.c" builds a part, while another part is under work.
ONLY ?= src/*/*.c
SOURCES := $(filter-out src/main.c,$(wildcard $(ONLY)))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY := $(BUILD)/libdkimroll.a
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_*.c))
UNIT_HELPERS := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(wildcard tests/unit/test_*.c),$(wildcard tests/unit/*.c)))

.PHONY: all check demo bench clean install install-packages-% unit lint sanitize integration

all: $(BUILD)/dkimroll

$(BUILD)/dkimroll: $(BUILD)/src/main.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIBRARY): $(OBJECTS)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(UNIT_HELPERS) $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $< $(UNIT_HELPERS) $(LIBRARY) $(LDLIBS) -lcmocka

clean:
	rm -rf build build-*

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
