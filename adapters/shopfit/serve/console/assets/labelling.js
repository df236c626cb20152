// Labelling by keyboard: see pages/label.py.
"use strict";
