/* What people see: aligned columns, sizes in units, colours and progress bars on a terminal, plain lines elsewhere. */
#pragma once

#include "base/units.h"

#include <stdio.h>

#define SX_OUTPUT_COLUMNS 8

typedef enum SxColour { SX_PLAIN, SX_BOLD, SX_DIM, SX_RED, SX_GREEN, SX_YELLOW, SX_BLUE } SxColour;

typedef struct SxOutput SxOutput;
SxOutput *sx_output_new(FILE *file);
void sx_output_free(SxOutput *o);
bool sx_output_is_terminal(const SxOutput *o);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxOutput, sx_output_free)

/* Names as bytes made printable: control characters and bytes that are not UTF-8 as \xNN; they could otherwise command the
 * terminal. g_free. */
char *sx_printable(const char *bytes);
guint sx_text_width(const char *utf8); /* columns on a terminal */

void sx_print(SxOutput *o, SxColour colour, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* A table: rows are collected, then printed with aligned columns. Cells are copied and made printable. */
void sx_row(SxOutput *o, SxColour colour, ...) G_GNUC_NULL_TERMINATED; /* const char* cells; "" leaves one empty */
void sx_table_end(SxOutput *o, const char *align /* a letter a column: l or r */);

/* A line that is drawn again and again on a terminal; elsewhere it is printed when it has changed, at most each 5 s. */
void sx_progress(SxOutput *o, gint64 done, gint64 total /* <= 0: unknown */, const char *text);
void sx_progress_end(SxOutput *o);
/* Lines that replace the ones of the last call (transfers --watch). */
void sx_screen_begin(SxOutput *o);
void sx_screen_end(SxOutput *o);
