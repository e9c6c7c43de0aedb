#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_yaml.h"
#include "dkimroll/text.h"

const struct policy_node *policy_node_find(const struct policy_node *node, const char *name) {
  if (!node || node->kind != POLICY_NODE_MAPPING) return NULL;
  for (const struct policy_node *child = node->first; child; child = child->next) {
    if (text_equal(child->name, name)) return child;
  }
  return NULL;
}

struct policy_place policy_node_place(const struct policy_node *node, const char *name) {
  const struct policy_node *child = policy_node_find(node, name);
  return child ? child->place : node->name_place;
}

bool policy_node_is_null(const struct policy_node *node) {
  if (node->kind != POLICY_NODE_TEXT || !node->plain) return false;
  return node->text[0] == '\0' || text_equal(node->text, "~") || text_equal_nocase(node->text, "null");
}

const char *policy_node_path(const struct policy_node *node, char buffer[POLICY_PATH_SIZE]) {
  const char *names[POLICY_DEPTH_MAX + 1];
  size_t count = 0;
  for (; node && count < ARRAY_SIZE(names); node = node->parent) {
    if (node->name) names[count++] = node->name;
  }
  size_t used = 0;
  buffer[0] = '\0';
  while (count > 0 && used < POLICY_PATH_SIZE) {
    const int length = snprintf(buffer + used, POLICY_PATH_SIZE - used, "%s%s", names[count - 1], count > 1 ? "." : "");
    if (length > 0) used += (size_t)length;
    count--;
  }
  return buffer;
}

void policy_node_free(struct policy_node *node) {
  if (!node) return;
  /* Children cannot be nested deeper than POLICY_DEPTH_MAX, so the recursion is bounded. */
  for (struct policy_node *child = node->first, *next; child; child = next) {
    next = child->next;
    policy_node_free(child);
  }
  free(node);
}
