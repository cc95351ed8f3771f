"""Visual question answering where several answers may be right."""
