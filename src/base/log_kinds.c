#include "dkimroll/cleanup.h"
#include "dkimroll/log.h"
#include "dkimroll/text.h"

/* Made once by chance, and never changed: people filter for them. dkimroll(8) lists them. */
static const struct {
  const char *kind, *message_id;
} KINDS[] = {
    {"state", "40cefc8d83cc4cbca2eaaf984f29fd0f"},
    {"failed", "14f0852a4ee641b7814666b4a83ded1e"},
    {"alarm", "24ffd9a233c140d193b05f1b146403d6"},
    {"recovered", "2acb4c80ecf94866b8ebd320463e5aec"},
    {"lost", "89cb6b46cef74d9d9b7f8ad6f37a84a6"},
    {"healed", "1d3ff082e5b34845a54b19045cddfce2"},
    {"confirmed", "8140e9eee701493083c080e678cb4e4f"},
    {"absent", "07a19bd05515433d98e8d5f7aa0eaefa"},
    {"placed", "fc815bedfada4abf9c323c04741c5f7b"},
    {"withdrawn", "41b4031d5c2043f6904102ad1794898b"},
    {"deleted", "c0e4478c9c4a4034832bd6243245432c"},
    {"reserved", "1ded98af23514d2e99e3c9321877531d"},
    {"imported", "ba62a4cdd98246aa91625c863163fe0e"},
    {"tables", "4fceb8922b6e41758803abc31f61029b"},
    {"clock", "44827897c6a24ff491e6ba9a123ee02f"},
    {"sync", "94c86a7f5c5e475a95b6cb918879c963"},
    {"requested", "6ab9c6e0c3db44aabd7481d5ebf6ba76"},
    {"held", "b8acdef41e394257983b88caa3c10fc9"},
    {"released", "26c224a3713f40ec8ed3e321c533e4ff"},
    {"forgotten", "2e7e0391b5f046569b98442ae9bd8bf3"},
    {"policy", "74ae42707c854918a0bea7818987f40c"},
    {"metrics", "be8c6f28d0a245018e07a16c0f3dfb2f"},
    {"hook", "801ac4a43a9f41428344a2307b14d47d"},
    {"stop", "1ba2830b6aae4ba2b53208fbd9a7af99"},
};

const char *log_message_id(const char *kind) {
  for (size_t i = 0; kind && i < ARRAY_SIZE(KINDS); i++)
    if (text_equal(KINDS[i].kind, kind)) return KINDS[i].message_id;
  return NULL;
}
