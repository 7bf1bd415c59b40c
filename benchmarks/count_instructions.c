/* Plugin for QEMU's user mode: how many instructions the emulated program executed, on stderr, whenever it asks for
   its parent's number (a system call that nothing else makes) and when it ends.

   Written against the documented plugin interface, whose header not every distribution ships. Callbacks a block
   are the one way to count that all versions have; the count is exact for a program of one thread. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifndef PLUGIN_API
#define PLUGIN_API 1 /* 1 up to QEMU 8, 2 from QEMU 9 on */
#endif

typedef uint64_t plugin_id;
struct qemu_plugin_tb; /* a block: instructions that are executed one after the other */
enum { NO_REGISTERS = 0, GETPPID = 173 /* on 64-bit ARM */ };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*callback)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, void (*callback)(unsigned, void *),
                                          int registers, void *data);
typedef void system_call(plugin_id, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                         uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id, system_call *callback);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*callback)(plugin_id, void *), void *data);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = PLUGIN_API;

static uint64_t executed;

static void on_execution(unsigned cpu, void *instructions) {
  (void)cpu;
  executed += (uintptr_t)instructions;
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(block, on_execution, NO_REGISTERS, (void *)qemu_plugin_tb_n_insns(block));
}

static void report(void) { fprintf(stderr, "instructions: %" PRIu64 "\n", executed); }

static void on_system_call(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                           uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (number == GETPPID) report();
}

static void at_end(plugin_id id, void *data) {
  (void)id;
  (void)data;
  report();
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info;
  (void)argc;
  (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
  qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
  qemu_plugin_register_atexit_cb(id, at_end, NULL);
  return 0;
}
