#include "dkimroll/policy_yaml.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

static int read_input(void *context, unsigned char *buffer, size_t size, size_t *ret_size) {
  return policy_input_read(context, buffer, size, ret_size);
}

static struct policy_place place_of(const struct policy_yaml *yaml, yaml_mark_t mark) {
  return (struct policy_place){
      .line = (unsigned)mark.line + 1, .column = (unsigned)mark.column + 1, .file = yaml->input->place.file};
}

static struct policy_place event_place(const struct policy_yaml *yaml) {
  return place_of(yaml, yaml->event.start_mark);
}

/* libyaml's words are right and help nobody who did not write a parser; these are the usual causes. */
static const struct {
  const char *words;
  const char *remedy;
} syntax_remedies[] = {
    {"cannot start any token",
     "a value that begins with %, @ or ` needs quotes, and indentation is made of blanks, not tabs"},
    {"expected alphabetic or numeric character",
     "a value that begins with * or & needs quotes, as in \"*@example.com\""},
    {"mapping values are not allowed", "a value that holds \": \" needs quotes; else the line is indented too far"},
    {"could not find expected ':'", "a key is followed by a colon and a blank"},
    {"',' or '}'", "close the { with a }, and put commas between its entries"},
    {"',' or ']'", "close the [ with a ], and put commas between its entries"},
    {"unexpected end of stream", "close the quotes"},
    {"found unknown escape character", "in double quotes a backslash is written twice; or use single quotes"},
    {"did not find expected key", "indent the keys of one mapping alike"},
    {"block sequence", "indent the items of one list alike"},
};

static const char *syntax_remedy(const char *problem, const char *context) {
  for (size_t i = 0; i < ARRAY_SIZE(syntax_remedies); i++) {
    if (strstr(problem, syntax_remedies[i].words)) return syntax_remedies[i].remedy;
  }
  return strstr(context, "block") ? "check the indentation" : "check quotes, brackets and indentation";
}

/* Reports why libyaml could not go on. */
static void report_syntax(struct policy_yaml *yaml) {
  const yaml_parser_t *parser = &yaml->parser;
  yaml->report->stopped = true;
  if (yaml->input->broken) return; /* said by the input already */
  if (parser->error == YAML_MEMORY_ERROR) {
    policy_report_no_memory(yaml->report);
    return;
  }
  const char *problem = parser->problem ? parser->problem : "it cannot be understood";
  const char *context = parser->context ? parser->context : "";
  const struct policy_place place = place_of(yaml, parser->problem_mark);
  const char *remedy = syntax_remedy(problem, context);
  if (context[0] && parser->context_mark.line + 1 != place.line) {
    policy_report_add(yaml->report, place, "this is not YAML: %s (%s from line %zu); %s", problem, context,
                      parser->context_mark.line + 1, remedy);
  } else {
    policy_report_add(yaml->report, place, "this is not YAML: %s; %s", problem, remedy);
  }
}

static bool is_usable(const struct policy_yaml *yaml) {
  return yaml->open && !yaml->report->stopped && yaml->report->failure == 0;
}

/* Ends the reading at the present event with a finding that was made. */
static void stop(struct policy_yaml *yaml) {
  yaml->report->stopped = true;
}

static void advance(struct policy_yaml *yaml) {
  yaml_event_delete(&yaml->event);
  memset(&yaml->event, 0, sizeof(yaml->event));
  if (is_usable(yaml) && !yaml_parser_parse(&yaml->parser, &yaml->event)) report_syntax(yaml);
}

void policy_yaml_open(struct policy_yaml *yaml, struct policy_input *input, struct policy_report *report) {
  *yaml = (struct policy_yaml){.input = input, .report = report};
  if (!yaml_parser_initialize(&yaml->parser)) {
    policy_report_no_memory(report);
    return;
  }
  yaml->open = true;
  yaml_parser_set_encoding(&yaml->parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input(&yaml->parser, read_input, input);
  advance(yaml);                                                    /* start of the stream */
  advance(yaml);                                                    /* of the document */
  if (yaml->event.type == YAML_DOCUMENT_START_EVENT) advance(yaml); /* its root */
}

void policy_yaml_close(struct policy_yaml *yaml) {
  if (!yaml->open) return;
  yaml_event_delete(&yaml->event);
  yaml_parser_delete(&yaml->parser);
  yaml->open = false;
}

enum policy_node_kind policy_yaml_next(const struct policy_yaml *yaml, struct policy_place *ret_place) {
  if (!is_usable(yaml)) return POLICY_NODE_NONE;
  *ret_place = event_place(yaml);
  switch (yaml->event.type) {
  case YAML_SCALAR_EVENT: return POLICY_NODE_TEXT;
  case YAML_SEQUENCE_START_EVENT: return POLICY_NODE_LIST;
  case YAML_MAPPING_START_EVENT: return POLICY_NODE_MAPPING;
  case YAML_ALIAS_EVENT: return POLICY_NODE_BROKEN;
  default: return POLICY_NODE_NONE;
  }
}

/* What YAML allows and a policy does not, at the start of any node. */
static void check_plainness(struct policy_yaml *yaml) {
  const yaml_event_t *event = &yaml->event;
  const yaml_char_t *anchor = NULL;
  const yaml_char_t *tag = NULL;
  switch (event->type) {
  case YAML_SCALAR_EVENT:
    anchor = event->data.scalar.anchor;
    tag = event->data.scalar.tag;
    break;
  case YAML_SEQUENCE_START_EVENT:
    anchor = event->data.sequence_start.anchor;
    tag = event->data.sequence_start.tag;
    break;
  case YAML_MAPPING_START_EVENT:
    anchor = event->data.mapping_start.anchor;
    tag = event->data.mapping_start.tag;
    break;
  default: break;
  }
  if (anchor) {
    policy_report_add(yaml->report, event_place(yaml),
                      "anchors (&%s) are not supported; write the value out, or share it by a named policy, publisher, "
                      "signer or domain-defaults",
                      (const char *)anchor);
  }
  if (tag) {
    policy_report_add(yaml->report, event_place(yaml),
                      "tags (%s) are not supported; write the value without one, in quotes if need be",
                      (const char *)tag);
  }
}

void policy_yaml_enter(struct policy_yaml *yaml) {
  check_plainness(yaml);
  yaml->depth++;
  advance(yaml);
}

/* The present scalar must be text of a sane size: said here once for keys and values. */
static bool check_scalar(struct policy_yaml *yaml) {
  const size_t length = yaml->event.data.scalar.length;
  const char *value = (const char *)yaml->event.data.scalar.value;
  const char *what = NULL;
  if (length > POLICY_TEXT_MAX) what = "this text is longer than 4096 octets; no value may be";
  if (!what && memchr(value, '\0', length)) what = "this text holds a NUL octet; leave out the \\0";
  for (size_t i = 0; i < length && !what && !yaml->report->stored; i++) {
    if (text_is_control(&value[i])) {
      what =
          "this text holds a line break or another control character; write it in one line, and check that quotes are "
          "closed";
    }
  }
  if (!what) return true;
  policy_report_add(yaml->report, event_place(yaml), "%s", what);
  return false;
}

static struct policy_node *make_node(struct policy_yaml *yaml, const char *name, struct policy_place name_place) {
  const bool is_text = yaml->event.type == YAML_SCALAR_EVENT;
  const size_t name_size = name ? strlen(name) + 1 : 0;
  const size_t text_size = is_text ? yaml->event.data.scalar.length + 1 : 0;
  struct policy_node *node = malloc(sizeof(*node) + name_size + text_size);
  if (!node) {
    policy_report_no_memory(yaml->report);
    return NULL;
  }
  *node = (struct policy_node){.place = event_place(yaml)};
  node->name_place = name ? name_place : node->place;
  /* Name and text live behind the node: one allocation each, and 100,000 domains have a million nodes. */
  char *behind = (char *)(node + 1);
  if (name) node->name = memcpy(behind, name, name_size);
  if (is_text) node->text = memcpy(behind + name_size, yaml->event.data.scalar.value, text_size);
  return node;
}

static void add_child(struct policy_node *parent, struct policy_node *child) {
  child->parent = parent;
  if (parent->last) {
    parent->last->next = child;
  } else {
    parent->first = child;
  }
  parent->last = child;
}

static struct policy_node *read_node(struct policy_yaml *yaml, const char *name, struct policy_place name_place);

static void read_children(struct policy_yaml *yaml, struct policy_node *node) {
  policy_yaml_enter(yaml);
  while (is_usable(yaml)) {
    char *name = NULL;
    struct policy_place place = node->place;
    if (node->kind == POLICY_NODE_MAPPING ? !policy_yaml_key(yaml, &name, &place) : !policy_yaml_item(yaml)) return;
    struct policy_node *child = read_node(yaml, name, place);
    free(name);
    if (child) add_child(node, child);
  }
}

/* Recursion is bounded by POLICY_DEPTH_MAX. */
static struct policy_node *read_node(struct policy_yaml *yaml, const char *name, struct policy_place name_place) {
  if (!is_usable(yaml)) return NULL;
  if (++yaml->nodes > POLICY_TREE_NODES_MAX || yaml->depth >= POLICY_DEPTH_MAX) {
    policy_report_add(yaml->report, event_place(yaml), "%s; a policy has nothing of that kind",
                      yaml->depth >= POLICY_DEPTH_MAX ? "this is nested more than 12 levels deep"
                                                      : "this part has more than 100,000 values");
    stop(yaml);
    return NULL;
  }
  struct policy_node *node = make_node(yaml, name, name_place);
  if (!node) return NULL;
  struct policy_place place;
  node->kind = policy_yaml_next(yaml, &place);
  if (node->kind == POLICY_NODE_LIST || node->kind == POLICY_NODE_MAPPING) {
    read_children(yaml, node);
    return node;
  }
  check_plainness(yaml);
  if (node->kind == POLICY_NODE_TEXT) {
    node->plain = yaml->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (!check_scalar(yaml)) node->kind = POLICY_NODE_BROKEN;
  } else {
    const bool is_alias = yaml->event.type == YAML_ALIAS_EVENT;
    policy_report_add(
        yaml->report, node->place,
        "*%s is an alias for YAML, and aliases are not supported; if the text itself begins with *, put it in quotes",
        is_alias ? (const char *)yaml->event.data.alias.anchor : "");
    node->kind = POLICY_NODE_BROKEN;
  }
  advance(yaml);
  return node;
}

struct policy_node *policy_yaml_read(struct policy_yaml *yaml, const char *name, struct policy_place name_place) {
  if (!is_usable(yaml)) return NULL;
  yaml->nodes = 0;
  struct policy_node *node = read_node(yaml, name, name_place);
  if (is_usable(yaml)) return node;
  policy_node_free(node);
  return NULL;
}

/* Whether the present mapping or list goes on; its end is passed over. */
static bool goes_on(struct policy_yaml *yaml) {
  if (!is_usable(yaml)) return false;
  if (yaml->event.type != YAML_MAPPING_END_EVENT && yaml->event.type != YAML_SEQUENCE_END_EVENT) return true;
  yaml->depth--;
  advance(yaml);
  return false;
}

bool policy_yaml_item(struct policy_yaml *yaml) {
  return goes_on(yaml);
}

/* Whether the present event can be a key; if not, a finding says why. */
static bool check_key(struct policy_yaml *yaml) {
  const struct policy_place place = event_place(yaml);
  check_plainness(yaml);
  if (yaml->event.type != YAML_SCALAR_EVENT) {
    policy_report_add(yaml->report, place,
                      "a key must be plain text, and this is a list, a mapping or an alias; a text that begins with * "
                      "needs quotes");
    return false;
  }
  if (text_equal((const char *)yaml->event.data.scalar.value, "<<")) {
    policy_report_add(yaml->report, place,
                      "merge keys (<<) are not supported; write the values out, or share them by a named policy or "
                      "domain-defaults");
    return false;
  }
  /* What is written again is read again, and YAML takes a quoted key of at most 1024 characters. */
  if (yaml->report->stored && yaml->event.data.scalar.length > POLICY_NAME_MAX) {
    policy_report_add(yaml->report, place, "this name is longer than the 63 octets that a policy lets it have");
    return false;
  }
  return check_scalar(yaml);
}

/* Passes over the present node without a word. */
static void skip_node(struct policy_yaml *yaml) {
  const unsigned depth = yaml->depth;
  do {
    const yaml_event_type_t type = yaml->event.type;
    if (type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT) yaml->depth++;
    if (type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT) yaml->depth--;
    advance(yaml);
  } while (is_usable(yaml) && yaml->depth > depth);
}

bool policy_yaml_key(struct policy_yaml *yaml, char **ret_name, struct policy_place *ret_place) {
  while (goes_on(yaml)) {
    if (!check_key(yaml)) {
      skip_node(yaml);
      skip_node(yaml);
      continue;
    }
    char *name = text_duplicate((const char *)yaml->event.data.scalar.value);
    if (!name) {
      policy_report_no_memory(yaml->report);
      return false;
    }
    *ret_name = name;
    *ret_place = event_place(yaml);
    advance(yaml);
    return true;
  }
  return false;
}

void policy_yaml_finish(struct policy_yaml *yaml) {
  if (!is_usable(yaml) || yaml->event.type == YAML_STREAM_END_EVENT) return;
  advance(yaml); /* past the end of the document */
  if (!is_usable(yaml) || yaml->event.type == YAML_STREAM_END_EVENT) return;
  policy_report_add(
      yaml->report, event_place(yaml),
      "another document begins here; a policy is one document: remove the --- and what belongs to another file");
  stop(yaml);
}
