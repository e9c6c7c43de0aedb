/* YAML for the policy, over libyaml's events: small parts are read as trees of nodes, long mappings and lists are walked entry by entry, so that
 * memory does not grow with the number of domains. The subset is the plain one: no anchors, aliases, merge keys or tags, one document. */
#ifndef DKIMROLL_POLICY_YAML_H
#define DKIMROLL_POLICY_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include <yaml.h>

#include "dkimroll/policy_input.h"
#include "dkimroll/policy_report.h"

enum {
  POLICY_TEXT_MAX = 4096,         /* octets of one value or key: as long as a path may be */
  POLICY_DEPTH_MAX = 12,          /* levels of nesting; the grammar has 6 */
  POLICY_TREE_NODES_MAX = 100000, /* of one tree: a thousand policies with every key given have 30,000 */
  POLICY_PATH_SIZE = 256,         /* "policies.standard.publish.ttl", cut to fit */
};

enum policy_node_kind {
  POLICY_NODE_NONE = 0, /* nothing there */
  POLICY_NODE_TEXT = 1,
  POLICY_NODE_LIST = 2,
  POLICY_NODE_MAPPING = 3,
  POLICY_NODE_BROKEN = 4, /* a finding was made: to be passed over in silence */
};

struct policy_node {
  enum policy_node_kind kind;
  bool plain;                     /* TEXT without quotes: may be null */
  struct policy_place place;      /* of the value */
  const char *text;               /* TEXT */
  const char *name;               /* its key, if it stands in a mapping; else NULL */
  struct policy_place name_place; /* of the key; of the value if it has none */
  const struct policy_node *parent;
  struct policy_node *first; /* children, owned */
  struct policy_node *last;
  struct policy_node *next; /* sibling */
};

/* Its first child of that name; NULL: none, or no mapping. */
const struct policy_node *policy_node_find(const struct policy_node *node, const char *name);
/* Where the value of its child of that name stands, else where node itself is named. */
struct policy_place policy_node_place(const struct policy_node *node, const char *name);
/* Nothing was given: "key:", "key: null", "key: ~". */
bool policy_node_is_null(const struct policy_node *node);
/* "policies.standard.publish" for messages. Returns buffer. */
const char *policy_node_path(const struct policy_node *node, char buffer[POLICY_PATH_SIZE]);
void policy_node_free(struct policy_node *node); /* NULL is fine */

struct policy_yaml {
  yaml_parser_t parser;
  yaml_event_t event; /* the one that was not dealt with yet */
  bool open;          /* parser and event hold something */
  struct policy_input *input;
  struct policy_report *report;
  unsigned depth;
  size_t nodes; /* of the tree that is being read */
};

/* Begins to read; the event of the root is the next. Findings go to report; after one that ends the reading report->stopped is set, and every function
 * below says that there is no more. Close it in any case. */
void policy_yaml_open(struct policy_yaml *yaml, struct policy_input *input, struct policy_report *report);
void policy_yaml_close(struct policy_yaml *yaml);

/* What comes next, and where; NONE: an empty document, or the end. */
enum policy_node_kind policy_yaml_next(const struct policy_yaml *yaml, struct policy_place *ret_place);
/* Steps into the mapping or list that comes next. */
void policy_yaml_enter(struct policy_yaml *yaml);
/* The next key of a mapping that was entered; false: it ended. The value must be entered or read afterwards. Caller frees *ret_name. */
bool policy_yaml_key(struct policy_yaml *yaml, char **ret_name, struct policy_place *ret_place);
/* Whether a list that was entered has another item, which must then be read; false: it ended. */
bool policy_yaml_item(struct policy_yaml *yaml);
/* Reads what comes next as a tree. name (NULL: none) and name_place: its key. NULL: report->stopped or failure. Caller frees. */
struct policy_node *policy_yaml_read(struct policy_yaml *yaml, const char *name, struct policy_place name_place);
/* After the root: makes sure that nothing follows. */
void policy_yaml_finish(struct policy_yaml *yaml);

#endif
