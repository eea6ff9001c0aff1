"""Where, in depth and width, does a finite network leave its kernel?"""
