fc_test() { :; }
